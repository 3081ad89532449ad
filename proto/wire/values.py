"""The words every contract uses; amounts are integers and say their unit."""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from wire.message import Token

Asset = Literal["USD", "RENDER", "COUPON"]
"""USD in micros (6 decimals), RENDER in base units (8 decimals), COUPON in micros (1 coupon = 1 USD burned)."""

DECIMALS: dict[str, int] = {"USD": 6, "RENDER": 8, "COUPON": 6}

AMOUNT_MAX = 10**18 - 1
Amount = Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MAX)]
NodeId = Annotated[str, msgspec.Meta(pattern=r"^U[A-Z2-7]{55}$(?!\n)", description="Public nkey of the node.")]
PartnerId = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_\-]{0,31}$(?!\n)")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$(?!\n)", description="SHA-256, hexadecimal.")]
Text = Annotated[str, msgspec.Meta(max_length=2000)]
Word = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_ .+\-/()@:]{1,64}$(?!\n)")]
Country = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{2}$(?!\n)", description="ISO 3166-1 alpha-2.")]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
ReputationMillis = Annotated[int, msgspec.Meta(ge=0, le=1000, description="Lower bound of reputation, in thousandths.")]

CPU_MODEL = "CPU"
"""The model name of a node without a GPU."""


class Money(msgspec.Struct, frozen=True):
    """An exact amount: `amount` counts the smallest unit of `asset`."""

    amount: Amount
    asset: Asset = "USD"


class Reason(StrEnum):
    """Why something was refused or failed; partners branch on these words."""

    malformed = "malformed"
    unknown_type = "unknown_type"
    id_reused = "id_reused"
    out_of_range = "out_of_range"
    unknown_model = "unknown_model"
    unknown_booking = "unknown_booking"
    unknown_artefact = "unknown_artefact"
    unknown_node = "unknown_node"
    quote_expired = "quote_expired"
    quote_mismatch = "quote_mismatch"
    over_budget = "over_budget"
    insufficient_funds = "insufficient_funds"
    no_capacity = "no_capacity"
    not_ready = "not_ready"
    already_ended = "already_ended"
    cluster_failed = "cluster_failed"
    node_lost = "node_lost"
    artefact_too_large = "artefact_too_large"
    wrong_answer = "wrong_answer"
    too_slow = "too_slow"
    no_answer = "no_answer"
    banned = "banned"
    not_allowed = "not_allowed"
    already_registered = "already_registered"
    epoch_open = "epoch_open"
    internal = "internal"


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A business no: the reason to branch on, a sentence to show, and the nearest thing that would work."""

    reason: Reason
    detail: Text = ""
    nearest: Text = ""


class BandwidthTier(StrEnum):
    """RNP-004 bandwidth tiers, in MB/s both ways with a ping of at most 100 ms."""

    low_1 = "low_1"
    low_2 = "low_2"
    med_1 = "med_1"
    med_2 = "med_2"
    med_3 = "med_3"
    high_1 = "high_1"
    high_2 = "high_2"
    ultra = "ultra"


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """Where a node stands."""

    country: Country = "ZZ"
    region: Word = "unknown"
    state: Word = "unknown"


class PortBlock(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive TCP ports a node keeps for the Ray node it may have to run."""

    first: Port
    count: Annotated[int, msgspec.Meta(ge=16, le=4096)]


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says it is. A claim, not evidence: test jobs decide what it is worth."""

    name: Word
    manufacturer: Word
    model: Word
    gpus: Annotated[int, msgspec.Meta(ge=0, le=64)]
    vram_mb: Annotated[int, msgspec.Meta(ge=0, le=10**7)]
    cpu_model: Text
    cpu_cores: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    cpu_mhz: Annotated[int, msgspec.Meta(ge=0, le=20_000)]
    memory_mb: Annotated[int, msgspec.Meta(ge=1, le=10**9)]
    bandwidth_tier: BandwidthTier = BandwidthTier.low_1
    location: Location = Location()
    host_type: Literal["data_center", "miner", "partner", "render"] = "miner"
    compliance: Annotated[tuple[Word, ...], msgspec.Meta(max_length=16)] = ()
    address: Word = "127.0.0.1"
    ray_ports: PortBlock
    agent_version: Word = "0"
    disk: Literal["unknown", "hdd", "ssd", "nvme"] = "unknown"
    ask_hourly: Money | None = None
    """What the provider wants for an hour of each unit (RNP-021), in USD; sold at ask × (1 + 5/95). None: any price."""

    @property
    def units(self) -> int:
        """What is billed per hour: GPUs, or the whole node where there is none."""
        return max(self.gpus, 1)


class ClusterRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The cluster a customer wants. Defaults are left out, so that an order has one form for old and new readers."""

    nodes: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    model: Word
    duration_seconds: Annotated[int, msgspec.Meta(ge=60, le=366 * 86_400)]
    gpus_per_node: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    bandwidth_tier: BandwidthTier = BandwidthTier.low_1
    country: Country | None = None
    vram_mb_min: Annotated[int, msgspec.Meta(ge=0, le=10**7)] = 0
    memory_bandwidth_mb_s_min: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 0
    tensor_cores_min: Annotated[int, msgspec.Meta(ge=0, le=10**6)] = 0
    cpu_model: Word | None = None
    """Words the name of a node's processor has to contain, such as EPYC."""
    cpu_mhz_min: Annotated[int, msgspec.Meta(ge=0, le=20_000)] = 0
    cpu_cores_min: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0
    memory_mb_min: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 0
    disk: Literal["any", "ssd", "nvme"] = "any"
    """At least this kind: nvme is an ssd too."""
    reputation_millis_min: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0


class QuoteLine(msgspec.Struct, frozen=True, kw_only=True):
    """One factor of a price: the amount so far is the line before, times `numerator / denominator`, floored."""

    name: Word
    why: Text
    numerator: Annotated[int, msgspec.Meta(ge=0, le=10**12)]
    denominator: Annotated[int, msgspec.Meta(ge=1, le=10**12)]
    amount: Money


class LeaseTerms(msgspec.Struct, frozen=True, kw_only=True):
    """One node held for one booking; `fence` grows with every lease of that node, so an old one is known."""

    lease_id: Token
    node_id: NodeId
    fence: Annotated[int, msgspec.Meta(ge=1)]
    hourly: Money


class LeaseUse(msgspec.Struct, frozen=True, kw_only=True):
    """What one lease ran and cost: `cost = hourly × billed_ms / 3_600_000`, floored."""

    lease_id: Token
    node_id: NodeId
    hourly: Money
    billed_ms: Annotated[int, msgspec.Meta(ge=0)]
    cost: Money
    fee: Money
    burned: Money
    coupons: Money


class ProbeReadings(msgspec.Struct, frozen=True, kw_only=True):
    """RNP-004's b, m, c, t as integers: kB/s, MB, MHz, GFLOP/s."""

    bandwidth_kb_s: Annotated[int, msgspec.Meta(ge=0, le=10**12)]
    memory_mb: Annotated[int, msgspec.Meta(ge=0, le=10**9)]
    cpu_mhz: Annotated[int, msgspec.Meta(ge=0, le=10**6)]
    gflops: Annotated[int, msgspec.Meta(ge=0, le=10**9)]


def usd(micros: int) -> Money:
    return Money(micros, "USD")
