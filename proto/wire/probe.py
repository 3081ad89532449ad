"""Test jobs: what the prober asks, what the node answers, and what was found."""

from typing import Annotated, Literal

import msgspec

from wire.message import Event, Query, Reply, Token
from wire.values import Digest, NodeId, ProbeReadings, Reason, Text

ProbeKind = Literal["echo", "product", "memory", "clock", "bandwidth", "gpu"]
PAYLOAD_BYTES_MAX = 512 * 1024
PROOF_BYTES_MAX = 512 * 1024
PROOF_CELLS_MAX = 256
PATH_LENGTH_MAX = 32
ProofStage = Literal["prepare", "commit", "open"]
PathDigest = Annotated[bytes, msgspec.Meta(max_length=32)]


class Probe(Query, frozen=True, kw_only=True):
    """One question of a test job; the prober's clock runs from the request to the answer.

    `size` means: product, the order n of the matrices; memory, MB to fill; clock, links of the hash chain;
    bandwidth, bytes of the answer; echo, nothing. How the answer follows from the seed is written in docs/probes.md.
    """

    SUBJECT = "qry.node.{node_id}.probe"
    node_id: NodeId
    probe_id: Token
    kind: ProbeKind
    seed: Digest
    size: Annotated[int, msgspec.Meta(ge=0, le=10**9)]


class ProbeAnswer(Reply, frozen=True, kw_only=True):
    """The digest that proves the work; `payload` (hexadecimal) is filled for `bandwidth` alone."""

    probe_id: Token
    kind: ProbeKind
    digest: Annotated[str, msgspec.Meta(max_length=64)] = ""
    payload: Annotated[str, msgspec.Meta(max_length=2 * PAYLOAD_BYTES_MAX)] = ""
    declined: Text = ""


class ProofCell(msgspec.Struct, frozen=True):
    """One row of one segment of a proof of GPU."""

    row: Annotated[int, msgspec.Meta(ge=0, lt=65_536)]
    segment: Annotated[int, msgspec.Meta(ge=0, lt=65_536)] = 0


class ProofOpening(msgspec.Struct, frozen=True, kw_only=True):
    """A cell that was committed: the digits it began with, the products of its steps, and the Merkle paths."""

    cell: ProofCell
    before: Annotated[bytes, msgspec.Meta(max_length=32_768)] = b""
    before_path: Annotated[tuple[PathDigest, ...], msgspec.Meta(max_length=PATH_LENGTH_MAX)] = ()
    products: Annotated[bytes, msgspec.Meta(max_length=PROOF_BYTES_MAX)]
    path: Annotated[tuple[PathDigest, ...], msgspec.Meta(max_length=PATH_LENGTH_MAX)] = ()


class ProofQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Which proof of GPU is meant: the epoch that gives B, the card and nonce that give A, and the sizes."""

    epoch: Digest
    nonce: Digest
    card: Annotated[int, msgspec.Meta(ge=0, lt=64)] = 0
    order: Annotated[int, msgspec.Meta(ge=64, le=65_536)]
    steps: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 1
    every: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 1


class ProofEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What anyone needs to check a verdict on a proof of GPU again; docs/probes.md says how.

    `openings` hold the row that is wrong, or nothing where no row is (too slow, not answered, too large to publish).
    """

    question: ProofQuestion
    root: Annotated[str, msgspec.Meta(max_length=64)] = ""
    cells: Annotated[tuple[ProofCell, ...], msgspec.Meta(max_length=PROOF_CELLS_MAX)] = ()
    openings: Annotated[tuple[ProofOpening, ...], msgspec.Meta(max_length=PROOF_CELLS_MAX)] = ()
    commit_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    floor_micros: Annotated[int, msgspec.Meta(ge=0)] = 0


class ProveGpu(Query, frozen=True, kw_only=True):
    """One stage of a proof of GPU. `prepare`: make B; `commit`: compute, and answer the root; `open`: show `cells`.

    The prober's clock runs over `commit` alone. All cards of a host are asked at once, each with its own number.
    """

    SUBJECT = "qry.node.{node_id}.prove"
    node_id: NodeId
    probe_id: Token
    stage: ProofStage
    question: ProofQuestion
    cells: Annotated[tuple[ProofCell, ...], msgspec.Meta(max_length=PROOF_CELLS_MAX)] = ()


class ProveGpuAnswer(Reply, frozen=True, kw_only=True):
    """`root` (hexadecimal) answers `commit`, `openings` answer `open`; `declined` says why there is neither."""

    probe_id: Token
    stage: ProofStage
    root: Annotated[str, msgspec.Meta(max_length=64)] = ""
    openings: Annotated[tuple[ProofOpening, ...], msgspec.Meta(max_length=PROOF_CELLS_MAX)] = ()
    declined: Text = ""


class ProbePassed(Event, frozen=True, kw_only=True):
    """A test job was answered rightly and in time; `score_millionths` is RNP-004's P, 10⁶ for the reference node."""

    SUBJECT = "evt.probe.{node_id}.passed"
    node_id: NodeId
    probe_id: Token
    readings: ProbeReadings
    score_millionths: Annotated[int, msgspec.Meta(ge=0)]
    proofs: Annotated[tuple[ProofEvidence, ...], msgspec.Meta(max_length=64)] = ()


class ProbeFailed(Event, frozen=True, kw_only=True):
    """A test job was answered wrongly, too late or not at all, with what is needed to check that again."""

    SUBJECT = "evt.probe.{node_id}.failed"
    node_id: NodeId
    probe_id: Token
    kind: ProbeKind
    reason: Reason
    detail: Text
    seed: Digest
    expected: Text = ""
    answered: Text = ""
    elapsed_ms: int = 0
    proof: ProofEvidence | None = None


class ProbeUnmeasurable(Event, frozen=True, kw_only=True):
    """Our side could not measure; it neither pays nor punishes."""

    SUBJECT = "evt.probe.{node_id}.unmeasurable"
    node_id: NodeId
    probe_id: Token
    detail: Text
