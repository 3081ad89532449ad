"""Surge: bounded, monotone, without a corner, and still while use moves within the band."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks import surge as simulation
from services.pricing.domain.factors.supply import Surge, advance, curve
from services.pricing.domain.policy import Policy
from services.pricing.domain.standing import SURGE_WHOLE

POLICY = Policy()
MOST = POLICY.surge_price_max * 1000
BAND = POLICY.surge_band_permille * 1000
pools = st.tuples(st.integers(0, 2000), st.integers(0, 1000))
histories = st.lists(st.tuples(pools, st.integers(-10_000, 3_600_000)), max_size=40)


def settled(surge: Surge, used: int, total: int) -> Surge:
    """After so long that the mean of use is what the use is, but for the rounding of the last steps."""
    for _ in range(200):
        surge = advance(surge, used, total, surge.at + 600_000, POLICY)
    return surge


@given(histories)
def test_it_is_bounded_whatever_happens(history: list[tuple[tuple[int, int], int]]) -> None:
    surge = Surge()
    for (used, total), elapsed in history:
        now = surge.at + elapsed
        moved = advance(surge, used, total, max(now, 1), POLICY)
        assert SURGE_WHOLE <= moved.level <= MOST
        assert 0 <= moved.mean <= SURGE_WHOLE
        assert moved.at >= surge.at
        assert curve(moved.mean, POLICY) <= moved.level <= curve(moved.mean + BAND, POLICY)
        surge = moved


@given(st.integers(0, SURGE_WHOLE), st.integers(0, 10_000))
def test_the_curve_rises_and_has_no_corner(mean: int, step: int) -> None:
    width = (POLICY.surge_full_permille - POLICY.surge_from_permille) * 1000
    rise = curve(mean + step, POLICY) - curve(mean, POLICY)
    assert 0 <= rise <= 3 * (MOST - SURGE_WHOLE) * step // (2 * width) + 1  # the steepest slope of 3x² − 2x³ is 3/2


def test_an_idle_pool_costs_nothing_more_and_a_full_one_the_most() -> None:
    assert settled(Surge(), 700, 1000).level == SURGE_WHOLE
    assert settled(Surge(), 1000, 1000).level == MOST
    assert settled(settled(Surge(), 1000, 1000), 0, 1000).level == SURGE_WHOLE
    assert settled(Surge(), 4, 4).level == SURGE_WHOLE  # a small pool tells nothing of demand
    assert settled(settled(Surge(), 90, 100), 0, 0).level == SURGE_WHOLE  # a pool that is gone


@given(st.integers(720, 930), st.lists(st.integers(0, 90), min_size=1, max_size=50))
def test_it_stands_still_while_use_falls_back_by_less_than_the_band(peak: int, dips: list[int]) -> None:
    high = settled(Surge(), peak, 1000)
    surge = high
    for dip in dips:
        surge = advance(surge, peak - dip, 1000, surge.at + 60_000, POLICY)
        assert surge.level == high.level


@given(st.integers(0, 1000), st.integers(0, 1000), st.lists(st.integers(1, 600), min_size=1, max_size=30))
def test_with_use_that_stays_it_moves_one_way_only(before: int, after: int, seconds: list[int]) -> None:
    surge = settled(Surge(), before, 1000)
    levels = [surge.level]
    for wait in seconds:
        surge = advance(surge, after, 1000, surge.at + wait * 1000, POLICY)
        levels.append(surge.level)
    assert levels in (sorted(levels), sorted(levels, reverse=True))


@given(st.integers(1, 600))
def test_no_step_is_larger_than_its_time_allows(seconds: int) -> None:
    idle = settled(Surge(), 0, 1000)
    moved = advance(idle, 1000, 1000, idle.at + seconds * 1000, POLICY)
    assert moved.mean <= SURGE_WHOLE * seconds // (seconds + POLICY.surge_settle_seconds)


def test_in_a_market_that_answers_prices_it_does_not_oscillate() -> None:
    _, prices = simulation.simulate(simulation.surge(), seed=1)
    _, bare = simulation.simulate(simulation.bare_curve(), seed=1)
    assert max(prices) > 1.1  # it is an evening in which the pool runs short
    assert simulation.turns(prices) <= 6
    assert simulation.turns(bare) > 10 * simulation.turns(prices)  # the same market, without mean and band
