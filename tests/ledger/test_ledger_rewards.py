"""The reward rules of the proposals: their own examples, exactly, and the laws that any sharing has to keep."""

import itertools
import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.domain import emission
from services.ledger.domain import epoch as epochs
from services.ledger.domain.emission import RENDER, Emission
from services.ledger.domain.epoch import Closing, Epoch, Score
from services.ledger.domain.rewards import rnp004
from wire.values import ProbeReadings

VECTORS = json.loads((Path(__file__).parent / "rnp_vectors.json").read_text(), parse_float=Decimal)
WEIGHTS = st.dictionaries(st.text("ABCDEF", min_size=1, max_size=4), st.integers(0, 10**100), min_size=1, max_size=30)
POOLS = st.integers(0, 10**16)


def units(render: Any) -> int:
    """Base units, exactly."""
    exact = Fraction(render) * RENDER
    assert exact.denominator == 1
    return int(exact)


@pytest.mark.parametrize("vector", VECTORS["coupon_rewards_rnp004"])
def test_coupon_rewards_of_the_proposal(vector: dict[str, Any]) -> None:
    coupons = {node: amount * 10**6 for node, amount in vector["coupons"].items()}
    shares = rnp004.shares(units(vector["pool"]), coupons)
    if "rewards" in vector:
        assert shares == {node: units(reward) for node, reward in vector["rewards"].items()}
    else:
        assert shares == {"A": 3333333334, "B": 3333333333, "C": 3333333333}
        assert sum(shares.values()) == units(vector["rewards_sum"])


@pytest.mark.parametrize("vector", VECTORS["compute_share_rnp004"])
def test_compute_share_of_the_proposal(vector: dict[str, Any]) -> None:
    dollars = vector["usd_compute"] * 10**6, vector["usd_render"] * 10**6
    assert rnp004.compute_pool(units(vector["emission"]), *dollars) == units(vector["compute_pool"])


def test_availability_shares_of_the_proposal() -> None:
    vector = VECTORS["availability_score_rnp004"]
    weights = {
        node: rnp004.weight(
            ProbeReadings(
                bandwidth_kb_s=int(reading["bandwidth_mb_s"] * 1000),
                memory_mb=int(reading["memory_gb"] * 1024),
                cpu_mhz=int(reading["cpu_ghz"] * 1000),
                gflops=int(reading["tflops"] * 1000),
            )
        )
        for node, reading in vector["readings"].items()
    }
    total = sum(weights.values())
    assert {node: float(Fraction(weight, total)) for node, weight in weights.items()} == {
        node: pytest.approx(float(share), rel=1e-15) for node, share in vector["share"].items()
    }
    assert rnp004.shares(140, weights) == {"A": 8, "B": 128, "C": 1, "D": 3}


@given(POOLS, WEIGHTS)
def test_shares_sum_to_the_pool_and_are_within_a_unit_of_the_exact_ones(pool: int, weights: dict[str, int]) -> None:
    shares = rnp004.shares(pool, weights)
    total = sum(weights.values())
    assert sum(shares.values()) == (pool if total else 0)
    for node, weight in weights.items():
        assert not total or abs(shares[node] - Fraction(pool * weight, total)) < 1
        assert weight or shares[node] == 0


@given(POOLS, WEIGHTS, st.randoms())
def test_shares_do_not_depend_on_the_order(pool: int, weights: dict[str, int], chance: Any) -> None:
    shuffled = list(weights.items())
    chance.shuffle(shuffled)
    assert rnp004.shares(pool, dict(shuffled)) == rnp004.shares(pool, weights)


@given(POOLS, WEIGHTS)
def test_more_work_never_earns_less(pool: int, weights: dict[str, int]) -> None:
    shares = rnp004.shares(pool, weights)
    ranked = sorted(weights, key=lambda node: weights[node])
    for less, more in itertools.pairwise(ranked):
        assert weights[less] == weights[more] or shares[less] <= shares[more]


@given(POOLS, st.integers(0, 10**17), st.integers(0, 10**17), st.integers(1, 10**17))
def test_the_compute_pool_grows_with_its_dollars_and_never_beyond_the_emission(
    emitted: int, compute: int, more: int, render: int
) -> None:
    assert rnp004.compute_pool(emitted, compute, render) <= rnp004.compute_pool(emitted, compute + more, render)
    assert rnp004.compute_pool(emitted, compute, render) <= emitted
    assert rnp004.compute_pool(emitted, 0, render) == 0
    assert rnp004.compute_pool(emitted, compute, 0) == emitted


def test_failed_tests_count_and_more_tests_do_not_earn_more() -> None:
    assert rnp004.mean_over_tests(300, 3) == rnp004.mean_over_tests(100, 1) == 100
    assert rnp004.mean_over_tests(200, 3) == 66
    assert rnp004.mean_over_tests(0, 0) == 0


def test_the_schedule_is_that_of_the_proposal() -> None:
    assert emission.scheduled(0) == units(Decimal("190141.75")), "9,126,804 / 48, printed as 190,142"
    assert round(emission.scheduled(0) / RENDER) == VECTORS["compute_share_rnp004"][0]["emission"]
    years = [sum(emission.scheduled(48 * year + epoch) for epoch in range(48)) for year in range(5)]
    assert years[:3] == [9_126_804 * RENDER, 5_900_000 * RENDER, 5_900_000 * RENDER]
    assert years[3] == 5_900_000 * RENDER * 945 // 1000
    assert years[4] == years[3] * 945 // 1000


def test_the_schedule_ends_at_the_supply() -> None:
    emitted = [emission.scheduled(epoch) for epoch in range(48 * 80)]
    assert sum(emitted) == 107_374_182 * RENDER
    assert min(emitted) == emitted[-1] == 0
    assert emission.scheduled(10**9) == 0


def test_what_is_set_aside_for_availability_is_part_of_the_emission() -> None:
    split = emission.split(emission.scheduled(0), 100_000)
    assert split == Emission(17_112_757_500_000, 1_901_417_500_000)
    assert emission.split(5, 333_333) == Emission(4, 1)


NODES = st.dictionaries(st.sampled_from("ABCDEFGH"), st.integers(0, 10**12), max_size=8)


@given(POOLS, POOLS, POOLS, POOLS, NODES, NODES, st.integers(0, 10**12))
def test_an_epoch_pays_its_pools_out_or_carries_them_over(
    job: int,
    availability: int,
    job_before: int,
    availability_before: int,
    coupons: dict[str, int],
    weights: dict[str, int],
    usd_render: int,
) -> None:
    running = Epoch(7, 0, Emission(job, availability), Emission(job_before, availability_before))
    scores = {node: Score(weight, 1) for node, weight in weights.items()}
    closing: Closing = epochs.close(running, coupons, scores, usd_render)
    paid_job = sum(reward.job_reward.amount for reward in closing.rewards)
    paid_availability = sum(reward.availability_reward.amount for reward in closing.rewards)
    assert paid_job == (closing.compute_pool if any(coupons.values()) else 0)
    assert paid_availability == (closing.availability_pool if any(weights.values()) else 0)
    assert closing.carried_over == closing.compute_pool + closing.availability_pool - paid_job - paid_availability
    assert closing.compute_pool <= job + job_before
    assert closing.availability_pool == availability + availability_before
    flow = {"mint": 0, "carried_in": 0, "pay": 0, "carried_over": 0}
    for transfer in closing.transfers:
        flow[transfer.id.split("/")[3]] += transfer.amount
    assert flow["mint"] + flow["carried_in"] == flow["pay"] + flow["carried_over"]
    assert flow["mint"] <= job + availability
    assert [reward.node_id for reward in closing.rewards] == sorted(coupons.keys() | weights.keys())
