"""What one lease costs and how that divides: 5 % fee, 95 % burned (RNP-019, RNP-021), 1 coupon = 1 USD burned."""

from wire.booking import LeaseSpan
from wire.values import LeaseUse, Money, usd

HOUR_MS = 3_600_000
BURN_PERCENT = 95
RENDER_UNIT = 10**8
USD_MICROS_PER_USD = 10**6


def billed_ms(span: LeaseSpan) -> int:
    """Nothing before billing began; a lease that never began (`started_at` 0) is not billed."""
    return max(0, span.ended_at - span.started_at) if span.started_at else 0


def price(hourly: int, ms: int) -> int:
    """`hourly × ms / 3_600_000`, floored."""
    return hourly * ms // HOUR_MS


def charge(span: LeaseSpan, left: int) -> LeaseUse:
    """The charge for a lease, at most `left`: beyond it fewer milliseconds are billed, so that the figures agree.

    Escrow covers every lease up to the booking's end, so that happens only to a lease that was ended too late.
    """
    hourly, ms = span.lease.hourly.amount, billed_ms(span)
    cost = price(hourly, ms)
    if cost > left:
        ms = ((left + 1) * HOUR_MS - 1) // hourly
        cost = price(hourly, ms)
    burned = cost * BURN_PERCENT // 100
    return LeaseUse(
        lease_id=span.lease.lease_id,
        node_id=span.lease.node_id,
        hourly=span.lease.hourly,
        billed_ms=ms,
        cost=usd(cost),
        fee=usd(cost - burned),
        burned=usd(burned),
        coupons=Money(burned, "COUPON"),
    )


def render_for(usd_micros: int, price_micros: int) -> int:
    """Base units of RENDER that `usd_micros` buy at `price_micros` per RENDER, floored."""
    return usd_micros * RENDER_UNIT // price_micros
