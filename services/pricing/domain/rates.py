"""What a feed tells of the market: whether it can be kept at all, and how it follows the source's last rate."""

import msgspec

from services.pricing.domain.base import nearest_models
from services.pricing.domain.standing import Rate
from services.pricing.domain.tariff import Tariff
from wire.market import MarketRate
from wire.values import Reason, Refusal

FUTURE_MS = 60_000
SOURCES_MAX = 16
"""Of one partner for one model and tier."""


def refusal(told: MarketRate, now: int, tariff: Tariff, sources: int) -> Refusal | None:
    """Why this rate is not kept; `sources` are the partner's others for this class."""
    if told.model not in tariff.cards:
        return Refusal(
            reason=Reason.unknown_model,
            detail=f"Nothing is priced as {told.model!r}, so its market rate means nothing here.",
            nearest=", ".join(nearest_models(told.model, cards=tariff.cards)),
        )
    if told.observed_at > now + FUTURE_MS:
        ahead = (told.observed_at - now) // 1000
        return Refusal(reason=Reason.out_of_range, detail=f"This rate was seen {ahead} s in the future.")
    if sources >= SOURCES_MAX:
        detail = f"A partner tells of at most {SOURCES_MAX} sources for a model and tier."
        return Refusal(reason=Reason.out_of_range, detail=detail)
    return None


def renewed(old: Rate | None, told: MarketRate, jump_times: int) -> Rate | None:
    """The rate to keep, or None where a newer one is kept already.

    It remembers the source's last rate that was no jump, so that saying an absurd one twice does not make it sound.
    """
    if old is not None and old.observed_at >= told.observed_at:
        return None
    fresh = Rate(
        partner=told.partner,
        source=told.source,
        tier=told.bandwidth_tier,
        hourly_micros=told.hourly_micros,
        observed_at=told.observed_at,
    )
    if old is None:
        return fresh
    jumped = old.before_micros and apart(old.hourly_micros, old.before_micros, jump_times)
    before = (old.before_micros, old.before_at) if jumped else (old.hourly_micros, old.observed_at)
    return msgspec.structs.replace(fresh, before_micros=before[0], before_at=before[1])


def apart(one: int, other: int, times: int) -> bool:
    """Whether one of two rates is so many times the other, or more."""
    return one >= times * other or other >= times * one
