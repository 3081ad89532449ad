"""The lines of a quote: every factor in its order, each with the amount so far, floored after each."""

from collections.abc import Iterable, Iterator

from services.pricing.domain.base import BREAK_EVEN_DAYS, Card
from services.pricing.domain.factors import (
    cpu_clock,
    cpu_cores,
    cpu_model,
    disk,
    floor,
    location,
    market,
    memory,
    memory_bandwidth,
    peak_hours,
    reputation,
    supply,
    tensor_cores,
    vram,
)
from services.pricing.domain.factors.factor import Asked, Factor, percent
from services.pricing.domain.fee import BURN_PERCENT, FEE_PERCENT
from services.pricing.domain.tiers import PING_MS_MAX, tier_of
from wire.values import CPU_MODEL, QuoteLine, usd

_PREMIUMS = (
    vram.factor,
    memory_bandwidth.factor,
    tensor_cores.factor,
    cpu_model.factor,
    cpu_clock.factor,
    cpu_cores.factor,
    memory.factor,
    disk.factor,
    location.factor,
    peak_hours.factor,
    reputation.factor,
    supply.factor,
)


def lines(asked: Asked) -> tuple[QuoteLine, ...]:
    """The price of one node's hour, factor by factor; the last amount is the price."""
    found: list[QuoteLine] = []
    for factor in _factors(asked, found):
        before = found[-1].amount.amount if found else 1
        amount = usd(before * factor.numerator // factor.denominator)
        found.append(
            QuoteLine(
                name=factor.name,
                why=factor.why,
                numerator=factor.numerator,
                denominator=factor.denominator,
                amount=amount,
            )
        )
    return tuple(found)


def multiplied_out(found: Iterable[QuoteLine]) -> int:
    """The hourly price of one node: one micro-USD times each factor in turn, floored after each."""
    amount = 1
    for line in found:
        amount = amount * line.numerator // line.denominator
    return amount


def _factors(asked: Asked, found: list[QuoteLine]) -> Iterator[Factor]:
    """Each factor when its turn has come: some lift or lower what is `found` so far to an amount of their own."""
    judged = market.judge(asked)
    yield _base(asked.card)
    yield _tier(asked)
    yield market.factor(asked, judged, found[-1].amount.amount)
    for premium in _PREMIUMS:
        yield premium(asked)
    yield market.ceiling(asked, judged, found[-1].amount.amount)
    yield floor.factor(asked, found[-1].amount.amount)
    whole = (
        "A node without a GPU is priced whole." if asked.card.model == CPU_MODEL else "Each GPU of a node is priced."
    )
    yield Factor("GPUs per node", whole, asked.request.gpus_per_node)
    yield Factor(
        "operating fee",
        f"{FEE_PERCENT} % of the price is the network's operating fee and {BURN_PERCENT} % is burned (RNP-021):"
        " taken out of the price, not put on top.",
    )


def _base(card: Card) -> Factor:
    why = (
        f"{card.model}: {card.msrp_cents // 100}.{card.msrp_cents % 100:02d} USD / {BREAK_EVEN_DAYS} days / 24 h"
        f" (RNP-004), to the nearest micro-USD{f'; {card.assumption}' if card.assumption else ''}."
    )
    return Factor("base price", why, card.hourly_micros)


def _tier(asked: Asked) -> Factor:
    tier = tier_of(asked.request.bandwidth_tier)
    why = (
        f"{tier.published_name}: {tier.mb_s_min} MB/s down and up, ping at most {PING_MS_MAX} ms,"
        f" {percent(tier.permille)} (RNP-004)."
    )
    return Factor("bandwidth tier", why, tier.permille, 1000)
