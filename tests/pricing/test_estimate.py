"""Estimates: batches and sequences as Ray works them off, the frontier, and the cheapest plan in time."""

from math import ceil
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.pricing.domain.earnings import earnings, in_render
from services.pricing.domain.estimate import estimate, layouts
from services.pricing.domain.policy import Policy
from services.pricing.domain.standing import Standing
from services.pricing.domain.tariff import Tariff
from wire.market import EstimateWorkload, WorkloadClass, WorkloadEstimate
from wire.values import Money, Reason, Refusal, usd

AT = 1_764_000_000_000
FAST = WorkloadClass(model="RTX 4090", item_micros=20_000)
SLOW = WorkloadClass(model="RTX 3060 Ti", item_micros=60_000)


def asked(**fields: Any) -> EstimateWorkload:
    usual: dict[str, Any] = {
        "partner": "acme",
        "items": 1_000_000,
        "batch_items": 1000,
        "setup_seconds": 120,
        "deadline_seconds": 3600,
        "classes": (FAST, SLOW),
    }
    return EstimateWorkload(**{**usual, **fields})


def estimated(**fields: Any) -> WorkloadEstimate:
    found = estimate(asked(**fields), AT, {})
    assert isinstance(found, WorkloadEstimate)
    return found


def test_a_layout_by_hand() -> None:
    found = estimated(items=10_000, batch_items=1000, classes=(FAST,), nodes_max=4)
    # 10 batches of 20 s: on 1, 2, 3, 4 nodes 10, 5, 4, 3 of them one after the other; 0.370139 USD/h, setup 120 s.
    assert [(plan.nodes, plan.sequences, plan.seconds) for plan in found.plans] == [
        (4, 3, 180),
        (3, 4, 200),
        (2, 5, 220),
        (1, 10, 320),
    ]
    assert [plan.total.amount for plan in found.plans] == [ceil(370_139 * n * s / 3600) for n, s in
        ((4, 180), (3, 200), (2, 220), (1, 320))]  # fmt: skip
    assert [plan.chosen for plan in found.plans] == [False, False, False, True]
    assert all(plan.frontier for plan in found.plans)


def test_the_deadline_decides_which_is_the_cheapest() -> None:
    totals = []
    for deadline in (600, 3600, 24 * 3600):
        found = estimated(deadline_seconds=deadline, nodes_max=1000)
        (chosen,) = [plan for plan in found.plans if plan.chosen]
        assert chosen.seconds <= deadline
        assert chosen.frontier
        totals.append(chosen.total.amount)
    assert totals == sorted(totals, reverse=True) and totals[0] > totals[-1]


@given(st.integers(1, 10**7), st.integers(1, 8), st.integers(1, 10_000))
def test_layouts_use_the_fewest_nodes_and_do_all_batches(batches: int, gpus: int, nodes_max: int) -> None:
    found = list(layouts(batches, gpus, nodes_max))
    assert found and len(found) <= 120
    assert [n for n, _ in found] == sorted({n for n, _ in found})
    assert [s for _, s in found] == sorted({s for _, s in found}, reverse=True)
    for nodes, sequences in found:
        assert 1 <= nodes <= nodes_max
        assert nodes * gpus * sequences >= batches > (nodes - 1) * gpus * sequences


@settings(max_examples=30)
@given(
    st.integers(1, 10**9),
    st.integers(1, 10**6),
    st.integers(0, 86_400),
    st.integers(60, 10**7),
    st.integers(1, 10**7),
    st.integers(1, 500),
)
def test_the_frontier_is_what_nothing_beats(
    items: int, batch: int, setup: int, deadline: int, micros: int, nodes: int
) -> None:
    found = estimated(
        items=items,
        batch_items=batch,
        setup_seconds=setup,
        deadline_seconds=deadline,
        nodes_max=nodes,
        classes=(WorkloadClass(model="RTX 4090", item_micros=micros), SLOW),
    )
    points = [(plan.seconds, plan.total.amount) for plan in found.plans]
    for plan in found.plans:
        beaten = any(s <= plan.seconds and t < plan.total.amount for s, t in points)
        assert not (plan.frontier and beaten)
        assert plan.sequences * plan.nodes * plan.gpus_per_node >= plan.batches
    in_time = [plan for plan in found.plans if plan.in_time]
    chosen = [plan for plan in found.plans if plan.chosen]
    assert len(chosen) == bool(in_time)
    if chosen:
        assert chosen[0].total.amount == min(plan.total.amount for plan in in_time)
    elif points:
        assert "the fastest takes" in found.remarks[0]
    assert msgspec.json.decode(msgspec.json.encode(found), type=WorkloadEstimate) == found
    assert len(msgspec.json.encode(found)) < 256 * 1024


def test_a_class_without_a_price_is_refused() -> None:
    found = estimate(asked(classes=(WorkloadClass(model="RTX 4091", item_micros=1),)), AT, {})
    assert isinstance(found, Refusal)
    assert found.reason is Reason.unknown_model


def test_a_workload_of_more_than_a_year_is_no_plan() -> None:
    found = estimated(items=10**12, batch_items=10**9, nodes_max=1)
    assert found.plans == () and "fewer items" in found.remarks[0]


@pytest.mark.parametrize("render_price", [0, 5_000_000])
def test_earnings_by_hand(render_price: int) -> None:
    pool = {"RTX 4090": Standing(total=100, used=60)}
    table = earnings(AT, pool, render_price, Tariff())
    row = next(row for row in table.rows if row.model == "RTX 4090")
    assert row.earned_hourly == usd(370_139 * 95 // 100)
    assert (row.use_permille, row.use_from) == (600, "pool")
    assert row.earned_daily == usd(351_632 * 24 * 600 // 1000)
    assert row.power_daily == usd(67_500 * 24 * 600 // 1000)
    assert row.break_even_hourly == usd(370_139)
    assert row.break_even_days == ceil(1_599_000_000 / (5_063_500 - 972_000))
    assert row.list_price_render == (Money(1599 * 10**8 // 5, "RENDER") if render_price else None)
    assert [entry.earned_hourly.amount for entry in table.rows] == sorted(
        (entry.earned_hourly.amount for entry in table.rows), reverse=True
    )
    idle = next(row for row in table.rows if row.model == "T4")
    assert (idle.use_permille, idle.use_from) == (500, "assumed")


def test_what_never_breaks_even_says_so() -> None:
    table = earnings(AT, {}, 0, Tariff(policy=Policy(use_assumed_permille=0)))
    assert {row.break_even_days for row in table.rows} == {None}
    assert in_render(1, 3_000_000) == Money(33, "RENDER")
