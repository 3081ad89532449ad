"""The market: the price floats at a stated discount under the lowest competitor, as far as a feed can be believed.

A rate counts for a request of the same model whose tier it reaches. It is left out, and named in the quote with the
reason, when it is older than market_age_seconds or from the future, when it differs ten times from the source's last
rate or from the break-even price, and when fewer than market_sources_min sources agree that there is a market at all.
All sources that one partner tells of count as one, unless his feed is trusted: customers gain by false low rates.
"""

import msgspec

from services.pricing.domain.factors.factor import Asked, Factor, dollars
from services.pricing.domain.rates import FUTURE_MS, apart
from services.pricing.domain.standing import Rate
from wire.values import BandwidthTier

_NAMED_MAX = 8
_RANK = {tier: rank for rank, tier in enumerate(BandwidthTier)}


class Market(msgspec.Struct, frozen=True):
    """The lowest rate that is believed, of how many sources, and what was left out and why."""

    lowest: Rate | None
    sources: int
    ignored: tuple[str, ...]


def judge(asked: Asked) -> Market:
    """Which rates count for this request."""
    of_class = [rate for rate in asked.standing.rates if _RANK[rate.tier] >= _RANK[asked.request.bandwidth_tier]]
    believed, ignored = [], []
    for rate in of_class:
        fault = _fault(rate, asked)
        if fault:
            ignored.append(f"{rate.source} ({rate.partner}): {fault}")
        else:
            believed.append(rate)
    trusted = asked.policy.trusted
    sources = len({(rate.partner, rate.source if rate.partner in trusted else "") for rate in believed})
    if believed and sources < asked.policy.market_sources_min:
        alone = f"{sources} of {asked.policy.market_sources_min} sources that must agree"
        ignored += [f"{rate.source} ({rate.partner}): {alone}" for rate in believed]
        believed = []
    lowest = min(believed, key=lambda rate: (rate.hourly_micros, rate.source, rate.partner), default=None)
    return Market(lowest, sources, tuple(ignored))


def discounted(market: Market, asked: Asked) -> int | None:
    """The price the discount leaves of the lowest rate, per GPU and hour."""
    if market.lowest is None:
        return None
    return max(1, market.lowest.hourly_micros * (1000 - asked.policy.market_discount_permille) // 1000)


def factor(asked: Asked, market: Market, price: int) -> Factor:
    """`price` becomes `(1 − market_discount) × lowest`, upwards as well as downwards."""
    target, left_out = discounted(market, asked), _named(market.ignored)
    if target is None or market.lowest is None:
        return Factor("market", f"No market rate of this class is believed: the base price stands.{left_out}")
    minutes = max(0, asked.at - market.lowest.observed_at) // 60_000
    why = (
        f"{asked.policy.market_discount_permille / 10:.1f} % under the lowest of {market.sources} sources: "
        f"{market.lowest.source} at {dollars(market.lowest.hourly_micros)}, {minutes} min old, told by "
        f"{market.lowest.partner}.{left_out}"
    )
    return Factor("market", why, target, price)


def ceiling(asked: Asked, market: Market, price: int) -> Factor:
    """For a request of the competitor's own class, surge and premiums end where the discount to him would."""
    target = discounted(market, asked)
    if target is None or not asked.plain or not asked.policy.market_tops_surge:
        return Factor("market ceiling", "No competitor's rate bounds this price.")
    if price <= target:
        return Factor("market ceiling", f"The price is not above {dollars(target)}, the discounted market price.")
    why = f"Surge and premiums end at {dollars(target)}, the discounted market price (market_tops_surge)."
    return Factor("market ceiling", why, target, price)


def _fault(rate: Rate, asked: Asked) -> str:
    policy, base = asked.policy, asked.card.hourly_micros
    age = asked.at - rate.observed_at
    if age < -FUTURE_MS:
        return "seen in the future"
    if age > policy.market_age_seconds * 1000:
        return f"{age // 60_000} min old"
    if apart(rate.hourly_micros, base, policy.market_jump_times):
        return f"{dollars(rate.hourly_micros)} is {policy.market_jump_times} times off the break-even price"
    recent = rate.observed_at - rate.before_at <= policy.market_age_seconds * 1000
    if rate.before_micros and recent and apart(rate.hourly_micros, rate.before_micros, policy.market_jump_times):
        return f"jumped from {dollars(rate.before_micros)} to {dollars(rate.hourly_micros)}"
    return ""


def _named(ignored: tuple[str, ...]) -> str:
    if not ignored:
        return ""
    more = f" and {len(ignored) - _NAMED_MAX} more" if len(ignored) > _NAMED_MAX else ""
    return f" Ignored: {'; '.join(ignored[:_NAMED_MAX])}{more}."
