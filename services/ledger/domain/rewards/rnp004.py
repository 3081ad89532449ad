"""RNP-004's rewards: coupon rewards CR_i = N_i / ΣN × C_t and availability shares P_i / ΣP, in exact integers."""

from collections.abc import Mapping

from wire.values import ProbeReadings


def shares(pool: int, weights: Mapping[str, int]) -> dict[str, int]:
    """`pool × weight / all weights` each, by largest remainder, ties by id: the shares sum to `pool` exactly.

    Where nobody has any weight nobody is paid: the pool carries over.
    """
    total = sum(weights.values())
    assert pool >= 0 and all(weight >= 0 for weight in weights.values()), "pools and weights are not negative"
    if total == 0:
        return dict.fromkeys(weights, 0)
    paid = {node: pool * weight // total for node, weight in weights.items()}
    left = pool - sum(paid.values())
    for node in sorted(weights, key=lambda node: (-(pool * weights[node] % total), node))[:left]:
        paid[node] += 1
    return paid


def compute_pool(emission: int, usd_compute: int, usd_render: int) -> int:
    """C_t = E_t × U_compute / (U_compute + U_render), floored.

    Where neither did any work the whole emission is compute's, as it is for any work at all while render does none;
    without coupons it then carries over.
    """
    total = usd_compute + usd_render
    return emission * usd_compute // total if total else emission


def weight(readings: ProbeReadings) -> int:
    """P = b⁴ × t³ × m² × c of the readings in their own units: units cancel in a share, and integers round nothing."""
    return readings.bandwidth_kb_s**4 * readings.gflops**3 * readings.memory_mb**2 * readings.cpu_mhz


def mean_over_tests(total: int, tests: int) -> int:
    """A node's P of an epoch: the mean over its test jobs, a failed one counting as 0.

    A mean, because the prober decides how often a node is tested, and who is tested more must not earn more; failures
    count, because RNP-001 pays for the share of challenges that were passed. Unmeasurable ones do not count at all.
    """
    return total // tests if tests else 0
