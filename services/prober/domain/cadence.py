"""When a node is tested: Poisson arrivals, memoryless, so that having just been tested promises nothing."""

import math

SUSPECT_FACTOR = 4
SOONEST_MS = 500


def next_test_at(now: int, mean_seconds: float, suspect: bool, chance: float) -> int:
    """Unix ms of the next test; `chance` is uniform in [0, 1). Who is new or has failed is tested more often."""
    if not 0.0 <= chance < 1.0:
        raise ValueError("chance must lie in [0, 1)")
    mean_ms = mean_seconds * 1000 / (SUSPECT_FACTOR if suspect else 1)
    return now + max(SOONEST_MS, round(-math.log1p(-chance) * mean_ms))
