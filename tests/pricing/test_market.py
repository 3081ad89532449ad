"""The floating discount: which rates are believed, what is said of the others, and that no feed breaks the floor."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.pricing.domain.fee import price_of_ask
from services.pricing.domain.policy import Policy
from services.pricing.domain.quote import Terms, quote
from services.pricing.domain.rates import refusal, renewed
from services.pricing.domain.standing import SURGE_WHOLE, Asks, Rate, Standing
from services.pricing.domain.tariff import Tariff
from wire.market import MarketRate
from wire.quote import Quote
from wire.values import BandwidthTier, ClusterRequest, Reason

AT = 1_764_000_000_000
HOUR_MS = 3_600_000
BASE = 370_139
REQUEST = ClusterRequest(nodes=1, model="RTX 4090", duration_seconds=3600)


def rate(source: str, micros: int, age_ms: int = 0, **fields: Any) -> Rate:
    return Rate(
        **{
            "partner": source,
            "source": source,
            "tier": BandwidthTier.low_1,
            "hourly_micros": micros,
            "observed_at": AT - age_ms,
            **fields,
        }
    )


def priced(*rates: Rate, request: ClusterRequest = REQUEST, surge: int = SURGE_WHOLE, **settings: Any) -> Quote:
    standing = Standing(rates=rates, surge=surge, asks=settings.pop("asks", Asks()))
    found = quote(request, Terms("q", AT, 1, standing), Tariff(policy=Policy(minima_matched="disk", **settings)))
    assert isinstance(found, Quote)
    return found


def why(found: Quote, name: str = "market") -> str:
    return next(line.why for line in found.lines if line.name == name)


def test_the_price_is_the_stated_discount_under_the_lowest() -> None:
    found = priced(rate("a", 400_000), rate("b", 300_000))
    assert found.hourly.amount == 285_000
    assert "5.0 % under the lowest of 2 sources: b at 0.300000 USD" in why(found)
    assert priced(rate("a", 800_000), rate("b", 700_000)).hourly.amount == 665_000  # upwards as well
    assert priced(rate("a", 400_000), rate("b", 300_000), market_discount_permille=100).hourly.amount == 270_000


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (rate("odd", 200_000, age_ms=7 * HOUR_MS), "odd (odd): 420 min old"),
        (rate("odd", 200_000, age_ms=-2 * 60_000), "odd (odd): seen in the future"),
        (rate("odd", BASE // 10), "10 times off the break-even price"),
        (rate("odd", BASE * 10), "10 times off the break-even price"),
        (
            rate("odd", 100_000, before_micros=1_000_000, before_at=AT - HOUR_MS),
            "jumped from 1.000000 USD to 0.100000 USD",
        ),
    ],
)
def test_a_stale_or_absurd_rate_is_ignored_and_named(odd: Rate, words: str) -> None:
    sound = rate("a", 400_000), rate("b", 300_000)
    found = priced(*sound, odd)
    assert found.hourly == priced(*sound).hourly
    assert words in why(found)


def test_a_jump_long_ago_is_one_no_more() -> None:
    old = rate("a", 100_000, before_micros=1_000_000, before_at=AT - 7 * HOUR_MS)
    assert priced(old, rate("b", 300_000)).hourly.amount == 95_000


def test_one_source_alone_moves_nothing() -> None:
    found = priced(rate("a", 200_000))
    assert found.hourly.amount == BASE
    assert "a (a): 1 of 2 sources that must agree" in why(found)
    same = priced(rate("a", 200_000), rate("b", 210_000, partner="a"))
    assert same.hourly.amount == BASE  # one partner's sources are one
    trusted = priced(rate("a", 200_000), rate("b", 210_000, partner="a"), market_feeds_trusted="x, a")
    assert trusted.hourly.amount == 190_000


def test_a_competitor_of_a_lower_tier_is_of_another_class() -> None:
    low, high = rate("a", 200_000), rate("b", 500_000, tier=BandwidthTier.high_1)
    fast = msgspec.structs.replace(REQUEST, bandwidth_tier=BandwidthTier.high_1)
    more = rate("c", 450_000, tier=BandwidthTier.ultra)
    assert priced(low, high, more, request=fast).hourly.amount == 427_500
    assert priced(low, high, more).hourly.amount == 190_000


def test_surge_and_premiums_stop_at_the_market_of_the_same_class() -> None:
    rates = rate("a", 400_000), rate("b", 300_000)
    assert priced(*rates, surge=1_400_000).hourly.amount == 285_000
    assert "end at 0.285000 USD" in why(priced(*rates, surge=1_400_000), "market ceiling")
    assert priced(*rates, surge=1_400_000, market_tops_surge=False).hourly.amount == 399_000
    better = msgspec.structs.replace(REQUEST, disk="nvme")  # no competitor's rate is for that
    assert priced(*rates, request=better).hourly.amount == 285_000 * 105 // 100


rates = st.builds(
    rate,
    st.sampled_from("abcd"),
    st.integers(1, 10**12),
    age_ms=st.integers(-HOUR_MS, 10 * HOUR_MS),
    before_micros=st.integers(0, 10**9),
    before_at=st.integers(AT - HOUR_MS, AT),
)


@given(st.lists(rates, max_size=8), st.integers(0, 2_000_000), st.integers(SURGE_WHOLE, 1_500_000))
def test_no_feed_brings_a_price_below_its_floor_nor_above_the_lowest(many: list[Rate], ask: int, surge: int) -> None:
    found = priced(*many, surge=surge, asks=Asks((ask,), (1,)))
    floor = price_of_ask(max(ask, 67_500))  # 450 W at 0.15 USD/kWh
    assert found.hourly.amount >= floor
    market = next(line for line in found.lines if line.name == "market")
    if "under the lowest" in market.why:
        assert found.hourly.amount == max(floor, market.amount.amount)
        assert BASE // 11 < market.amount.amount < BASE * 10
    else:
        assert market.amount.amount == BASE
    assert len(market.why) <= 2000


def told(micros: int, observed_at: int = AT, **fields: Any) -> MarketRate:
    seen = {"partner": "a", "source": "s", "model": "RTX 4090", **fields}
    return MarketRate(hourly_micros=micros, observed_at=observed_at, **seen)


def test_a_rate_is_kept_with_the_last_one_that_was_no_jump() -> None:
    first = renewed(None, told(100_000, AT), 10)
    assert first is not None and (first.hourly_micros, first.before_micros) == (100_000, 0)
    second = renewed(first, told(120_000, AT + 1), 10)
    assert second is not None and (second.before_micros, second.before_at) == (100_000, AT)
    jump = renewed(second, told(1_300_000, AT + 2), 10)
    assert jump is not None and jump.before_micros == 120_000
    again = renewed(jump, told(1_300_000, AT + 3), 10)
    assert again is not None and again.before_micros == 120_000
    assert renewed(again, told(1, AT + 3), 10) is None  # not newer


def test_what_cannot_be_kept_is_refused() -> None:
    tariff = Tariff()
    assert refusal(told(1), AT, tariff, 15) is None
    for wrong, sources, reason in (
        (told(1, model="RTX 4091"), 0, Reason.unknown_model),
        (told(1, AT + 60_001), 0, Reason.out_of_range),
        (told(1), 16, Reason.out_of_range),
    ):
        found = refusal(wrong, AT, tariff, sources)
        assert found is not None and found.reason is reason
