"""Test jobs: what the prober asks, what the node answers, and what was found."""

from typing import Annotated, Literal

import msgspec

from wire.message import Event, Query, Reply, Token
from wire.values import Digest, NodeId, ProbeReadings, Reason, Text

ProbeKind = Literal["echo", "product", "memory", "clock", "bandwidth"]
PAYLOAD_BYTES_MAX = 512 * 1024


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


class ProbePassed(Event, frozen=True, kw_only=True):
    """A test job was answered rightly and in time; `score_millionths` is RNP-004's P, 10⁶ for the reference node."""

    SUBJECT = "evt.probe.{node_id}.passed"
    node_id: NodeId
    probe_id: Token
    readings: ProbeReadings
    score_millionths: Annotated[int, msgspec.Meta(ge=0)]


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


class ProbeUnmeasurable(Event, frozen=True, kw_only=True):
    """Our side could not measure; it neither pays nor punishes."""

    SUBJECT = "evt.probe.{node_id}.unmeasurable"
    node_id: NodeId
    probe_id: Token
    detail: Text
