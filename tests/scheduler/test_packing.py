"""Packing: a request goes to a node that can take it, and to the one that leaves the most for others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.domain.packing import Demand, Need, Room, choose, usable

A100, T4 = MODELS = (0, 1)

needs = st.builds(
    Need,
    gpus=st.integers(0, 8),
    cpu_milli=st.integers(0, 16).map(lambda cores: cores * 1000),
    memory_mib=st.integers(0, 64),
    models=st.frozensets(st.sampled_from(MODELS)),
)
one_node = st.tuples(
    st.integers(0, 8), st.integers(0, 16).map(lambda c: c * 1000), st.integers(0, 64), st.sampled_from(MODELS)
)
rooms = st.lists(one_node, min_size=1, max_size=12).map(lambda nodes: room(*nodes))
demands = st.lists(needs, max_size=20).map(Demand.of)


def room(*nodes: tuple[int, int, int, int]) -> Room:
    gpus, cpu, memory, model = zip(*nodes, strict=True)
    return Room(np.array(gpus), np.array(cpu), np.array(memory), np.array(model))


def can(need: Need, free: Room, node: int) -> bool:
    """Once more, one node at a time."""
    return bool(
        need.gpus <= free.gpus[node]
        and need.cpu_milli <= free.cpu_milli[node]
        and need.memory_mib <= free.memory_mib[node]
        and (not need.models or int(free.model[node]) in need.models)
    )


def price(need: Need, free: Room, demand: Demand, node: int) -> float:
    """The share of the room for each kind that the request would take there, counted one node at a time."""
    after = Room(*(column.copy() for column in free))
    after.gpus[node] -= need.gpus
    after.cpu_milli[node] -= need.cpu_milli
    after.memory_mib[node] -= need.memory_mib
    total = 0.0
    for kind, share in zip(demand.kinds, demand.shares, strict=True):
        there = sum(int(free.gpus[one]) for one in range(len(free.gpus)) if can(kind, free, one))
        left = sum(int(after.gpus[one]) for one in range(len(free.gpus)) if can(kind, after, one))
        total += share * (there - left) / there if there else 0
    return total


@given(needs, rooms, demands)
def test_the_node_can_take_it_and_none_is_cheaper(need: Need, free: Room, demand: Demand) -> None:
    able = [node for node in range(len(free.gpus)) if can(need, free, node)]
    chosen = choose(need, free, demand)
    if not able:
        assert chosen is None
    else:
        assert chosen in able
        prices = {node: price(need, free, demand, node) for node in able}
        assert prices[chosen] == pytest.approx(min(prices.values()), abs=1e-9)


@given(needs, rooms)
def test_without_a_known_demand_it_is_best_fit(need: Need, free: Room) -> None:
    able = [node for node in range(len(free.gpus)) if can(need, free, node)]
    best = min(able, key=lambda node: (free.gpus[node], free.cpu_milli[node], node), default=None)
    assert choose(need, free, Demand()) == best


@given(needs, rooms, demands)
def test_nothing_is_changed_by_choosing(need: Need, free: Room, demand: Demand) -> None:
    copies = [column.copy() for column in free]
    choose(need, free, demand)
    assert all((column == copy).all() for column, copy in zip(free, copies, strict=True))


@given(rooms, demands)
def test_a_gpu_is_usable_for_a_kind_where_its_node_can_take_that_kind(free: Room, demand: Demand) -> None:
    expected = [
        [int(free.gpus[node]) if can(kind, free, node) else 0 for node in range(len(free.gpus))]
        for kind in demand.kinds
    ]
    assert usable(free, demand).tolist() == expected


@given(st.lists(needs, max_size=30))
def test_a_demand_is_a_mix_that_does_not_depend_on_the_order(asked: list[Need]) -> None:
    demand = Demand.of(asked)
    assert demand == Demand.of(reversed(asked))
    assert sum(demand.shares) == pytest.approx(1 if any(need.gpus for need in asked) else 0)
    for kind in demand.kinds:
        alike = [need for need in asked if (need.gpus, need.models) == (kind.gpus, kind.models)]
        assert kind.cpu_milli in {need.cpu_milli for need in alike}
        assert kind.memory_mib in {need.memory_mib for need in alike}


SMALL = Need(gpus=1, cpu_milli=1000, memory_mib=1)
WHOLE = Need(gpus=8, cpu_milli=8000, memory_mib=8)


@given(st.integers(1, 7), st.integers(0, 6))
def test_a_whole_node_is_not_broken_while_a_begun_one_will_do(free: int, broken: int) -> None:
    """In whatever order they stand."""
    nodes = [(8, 8000, 64, A100)] * 7
    nodes[broken] = (free, 1000 * free, 64, A100)
    assert choose(SMALL, room(*nodes), Demand.of([SMALL, SMALL, WHOLE])) == broken


def test_the_processors_beside_free_gpus_are_not_taken_by_who_needs_no_gpu() -> None:
    free = room((8, 8000, 64, A100), (0, 8000, 64, A100), (4, 9000, 64, A100))
    assert choose(Need(gpus=0, cpu_milli=8000, memory_mib=1), free, Demand.of([SMALL])) == 1


def test_a_model_that_others_insist_on_is_left_to_them() -> None:
    free = room((1, 8000, 64, A100), (2, 8000, 64, T4))
    picky = Need(gpus=1, cpu_milli=1000, memory_mib=1, models=frozenset({A100}))
    assert choose(SMALL, free, Demand.of([picky])) == 1
    assert choose(SMALL, free, Demand()) == 0
