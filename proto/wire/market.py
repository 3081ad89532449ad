"""The market outside and inside: what others ask, what a workload would cost here, and what a model earns."""

from typing import Annotated, Literal

import msgspec

from wire.message import Event, Query, Reply, UnixMs
from wire.values import AMOUNT_MAX, BandwidthTier, Country, Money, PartnerId, Word

Positive = Annotated[int, msgspec.Meta(ge=1, le=10**12)]
HourlyMicros = Annotated[int, msgspec.Meta(ge=1, le=10**12, description="Micro-USD per GPU-hour.")]


class MarketRate(Event, frozen=True, kw_only=True):
    """What a competitor asked for an hour of one GPU of a model, as a partner's feed saw it at `observed_at`."""

    SUBJECT = "evt.market.{partner}.rate"
    partner: PartnerId
    source: Word
    """Who asks that price."""
    model: Word
    bandwidth_tier: BandwidthTier = BandwidthTier.low_1
    hourly_micros: HourlyMicros
    observed_at: UnixMs


class WorkloadClass(msgspec.Struct, frozen=True, kw_only=True):
    """A class of node with what an item takes on one of its GPUs, measured on one node by a short calibration run."""

    model: Word
    item_micros: Annotated[int, msgspec.Meta(ge=1, le=10**12, description="Microseconds per item.")]
    gpus_per_node: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1


class EstimateWorkload(Query, frozen=True, kw_only=True):
    """Ask how long a workload takes and what it costs, over node counts and classes; `deadline_seconds` marks one."""

    SUBJECT = "qry.pricing.{partner}.estimate"
    partner: PartnerId
    items: Positive
    batch_items: Annotated[int, msgspec.Meta(ge=1, le=10**9)]
    setup_seconds: Annotated[int, msgspec.Meta(ge=0, le=30 * 86_400)] = 0
    deadline_seconds: Annotated[int, msgspec.Meta(ge=60, le=366 * 86_400)]
    classes: Annotated[tuple[WorkloadClass, ...], msgspec.Meta(min_length=1, max_length=16)]
    nodes_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    bandwidth_tier: BandwidthTier = BandwidthTier.low_1
    country: Country | None = None


class WorkloadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One layout: `sequences` batches one after the other on each of `nodes × gpus_per_node` GPUs, after the setup."""

    model: Word
    nodes: int
    gpus_per_node: int
    batches: int
    sequences: int
    seconds: int
    hourly: Money
    total: Money
    in_time: bool
    frontier: bool
    """No other plan is both as fast and as cheap."""
    chosen: bool = False
    """The cheapest within the deadline."""


class WorkloadEstimate(Reply, frozen=True, kw_only=True):
    """The plans by their time; where more were found than a message takes, the frontier and then the fastest."""

    plans: tuple[WorkloadPlan, ...]
    left_out: Annotated[int, msgspec.Meta(ge=0)] = 0
    remarks: tuple[str, ...] = ()


class GetEarnings(Query, frozen=True, kw_only=True):
    """Ask what a GPU of each model may earn; `render_price` (USD for one RENDER) is the network's where it is 0."""

    SUBJECT = "qry.pricing.{identity}.earnings"
    identity: PartnerId
    render_price_micros: Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MAX)] = 0


class ModelEarning(msgspec.Struct, frozen=True, kw_only=True):
    """One model: an hour let, a day at the expected use, and when it has earned its list price, in USD and RENDER."""

    model: Word
    list_price: Money
    list_price_render: Money | None = None
    price_hourly: Money
    earned_hourly: Money
    earned_hourly_render: Money | None = None
    use_permille: Annotated[int, msgspec.Meta(ge=0, le=1000)]
    use_from: Literal["pool", "assumed"]
    earned_daily: Money
    earned_daily_render: Money | None = None
    power_daily: Money
    break_even_hourly: Money
    """What an hour has to earn for RNP-004's 180 days, let all day."""
    break_even_hourly_render: Money | None = None
    break_even_days: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Days until earnings less power reach the list price; None: never."""


class Earnings(Reply, frozen=True, kw_only=True):
    rows: tuple[ModelEarning, ...]
    render_price_micros: int = 0
    at: UnixMs = 0
