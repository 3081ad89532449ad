"""What a cluster costs: asked for by a partner, answered by pricing."""

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
