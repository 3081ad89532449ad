"""How far a node is trusted: evidence that decays, read as an interval and never as a point."""

from collections.abc import Callable

import msgspec

from services.reputation.domain.beta import beta_cdf
from services.reputation.domain.evidence import Evidence

NANOS_PER_MILLI = 1_000_000
_NANOS = 1_000 * NANOS_PER_MILLI
# The quantile is searched among thousandths; one that lies exactly on a thousandth must not fall beside it.
_SLACK = 1e-9


class Standing(msgspec.Struct, frozen=True):
    """A node's evidence, summed and decayed to `at`; in billionths of a passed test job: no rounding ever shows."""

    good_nanos: int = 0
    bad_nanos: int = 0
    at: int = 0


class Interval(msgspec.Struct, frozen=True):
    """A reputation in thousandths: with 90 % belief it lies between `lower` and `upper`; `mean` is the best guess."""

    lower_millis: int
    mean_millis: int
    upper_millis: int


def faded(standing: Standing, now: int, half_life_ms: int) -> Standing:
    """All evidence loses half its weight every half-life; never backwards in time."""
    if now <= standing.at:
        return standing
    left = 2.0 ** (-(now - standing.at) / half_life_ms)
    return Standing(round(standing.good_nanos * left), round(standing.bad_nanos * left), now)


def absorbed(standing: Standing, evidence: Evidence, half_life_ms: int) -> Standing:
    """With one more event. The order of arrival does not matter: an event that comes late has decayed by then."""
    event = Standing(evidence.good_millis * NANOS_PER_MILLI, evidence.bad_millis * NANOS_PER_MILLI, evidence.at)
    newest = max(standing.at, evidence.at)
    known, new = faded(standing, newest, half_life_ms), faded(event, newest, half_life_ms)
    return Standing(known.good_nanos + new.good_nanos, known.bad_nanos + new.bad_nanos, newest)


def interval(standing: Standing) -> Interval:
    """Belief after a uniform prior: Beta(1 + good, 1 + bad), its 5 % and 95 % quantiles and its mean.

    The quantiles are rounded outwards to thousandths. Without evidence that is 0.050 – 0.500 – 0.950.
    """
    a, b = 1 + standing.good_nanos / _NANOS, 1 + standing.bad_nanos / _NANOS
    return Interval(
        lower_millis=_most(lambda millis: beta_cdf(millis / 1000, a, b) <= 0.05 + _SLACK),
        mean_millis=round(1000 * a / (a + b)),
        # By symmetry: what Beta(a, b) has above x, Beta(b, a) has below 1 - x.
        upper_millis=1000 - _most(lambda millis: beta_cdf(millis / 1000, b, a) <= 0.05 + _SLACK),
    )


def _most(holds: Callable[[int], bool]) -> int:
    """The greatest of 0…1000 for which it holds; it holds up to there and not beyond."""
    low, high = 0, 1000
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
