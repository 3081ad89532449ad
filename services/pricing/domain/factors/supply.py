"""Pool supply: how far the price rises with the use of the model's pool, and how slowly it moves.

    mean of use   m ← m + (use − m) × dt / (dt + surge_settle_seconds)
    curve         s(m) = 1 + (surge_price_max − 1) × x²(3 − 2x),  x = (m − from) / (full − from) within 0 … 1
    play          surge ← max(s(m), min(surge, s(m + surge_band)))

The curve has no corner and is bounded on both sides. The play between both curves is the hysteresis: a rise is followed
along the lower one, a fall only once use has fallen back by the band, and in between the price stands still.
"""

import msgspec

from services.pricing.domain.factors.factor import Asked, Factor
from services.pricing.domain.policy import Policy
from services.pricing.domain.standing import SURGE_WHOLE


class Surge(msgspec.Struct, frozen=True):
    """Where a model's surge stands: the mean of its use and the price, both in millionths, as of `at`."""

    mean: int = 0
    level: int = SURGE_WHOLE
    at: int = 0


def factor(asked: Asked) -> Factor:
    stand, policy = asked.standing, asked.policy
    why = (
        f"{stand.used} of {stand.total} nodes of this model are in use. The price rises from "
        f"{policy.surge_from_permille / 10:.1f} % use on to × {policy.surge_price_max / 1000:.3f} at "
        f"{policy.surge_full_permille / 10:.1f} %, of pools of {policy.surge_nodes_min} nodes or more."
    )
    return Factor("pool supply", why, stand.surge, SURGE_WHOLE)


def advance(surge: Surge, used: int, total: int, now: int, policy: Policy) -> Surge:
    """The surge of `now` (Unix ms); time that runs backwards moves nothing, a first look takes use as it is."""
    use = 0 if total < policy.surge_nodes_min else min(used, total) * SURGE_WHOLE // total
    elapsed = max(0, now - surge.at)
    mean = use if surge.at == 0 else surge.mean + _toward(use - surge.mean, elapsed, policy.surge_settle_seconds * 1000)
    back = curve(mean + policy.surge_band_permille * 1000, policy)
    return Surge(mean, max(curve(mean, policy), min(surge.level, back)), max(now, surge.at))


def curve(mean: int, policy: Policy) -> int:
    """The price at a lasting use of `mean` millionths, in millionths of the price without surge."""
    start, full = policy.surge_from_permille * 1000, policy.surge_full_permille * 1000
    reached = min(max(mean - start, 0), full - start)
    width = full - start
    rise = (policy.surge_price_max - 1000) * 1000
    return SURGE_WHOLE + rise * reached * reached * (3 * width - 2 * reached) // width**3


def _toward(gap: int, elapsed: int, settle: int) -> int:
    """So much of `gap` as is closed in `elapsed`; towards zero, so that the mean never passes the use."""
    closed = abs(gap) * elapsed // (elapsed + settle)
    return closed if gap > 0 else -closed
