"""What a cluster costs: asked for by a partner, answered by pricing."""

from typing import Annotated

import msgspec

from wire.message import Query, Reply, Token, UnixMs
from wire.values import ClusterRequest, Money, PartnerId, QuoteLine, Refusal


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """A price that holds until `expires_at`; `lines` multiply out to `hourly` of one node exactly.

    `total = hourly × nodes × duration_seconds / 3600`, rounded up to a micro-USD: the most the booking can cost.
    """

    quote_id: Token
    request: ClusterRequest
    lines: tuple[QuoteLine, ...]
    hourly: Money
    total: Money
    issued_at: UnixMs
    expires_at: UnixMs
    ready_p50_ms: UnixMs | None = None
    """From the order to the ready cluster: of clusters of this model that became ready, half did within this time."""
    ready_p90_ms: UnixMs | None = None
    ready_samples: Annotated[int, msgspec.Meta(ge=0, description="Of how many clusters; few tell nothing.")] = 0


class GetQuote(Query, frozen=True, kw_only=True):
    """Ask what a cluster would cost."""

    SUBJECT = "qry.pricing.{partner}.quote"
    partner: PartnerId
    request: ClusterRequest


class QuoteGiven(Reply, frozen=True, kw_only=True):
    quote: Quote


class Refused(Reply, frozen=True, kw_only=True):
    """The answer to any query that cannot be answered."""

    refusal: Refusal
