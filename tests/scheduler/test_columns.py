"""The fleet in columns: whatever happened to it, a plan is what a look at every node would have found."""

from bisect import insort
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.domain import ranked
from services.scheduler.domain.columns import Fleet, Listing, Plan, Stale
from services.scheduler.domain.gang import Planner, Wish, fits, funnel
from services.scheduler.domain.ranked import Ranked

MODELS = ("A100", "H100", "RTX 4090")
COUNTRIES = ("DE", "SI")
NODES = [f"U{number:03d}" for number in range(40)]

listings = st.builds(
    Listing,
    node_id=st.sampled_from(NODES),
    model=st.sampled_from(MODELS),
    gpus=st.sampled_from((0, 1, 4, 8)),
    tier=st.integers(0, 2),
    country=st.sampled_from(COUNTRIES),
    vram_mb=st.sampled_from((0, 16_000, 24_564, 24_576)),
    reputation_millis=st.sampled_from((0, 50, 900, 1000)),
    ask=st.integers(0, 2),
    last_leased_at=st.integers(0, 3),
    fence=st.integers(0, 3),
    free=st.booleans(),
)
fleets = st.lists(listings, max_size=40, unique_by=lambda listing: listing.node_id)
wishes = st.builds(
    Wish,
    models=st.lists(st.sampled_from((*MODELS, "T4")), min_size=1, max_size=3, unique=True).map(tuple),
    nodes=st.integers(1, 8),
    gpus_min=st.sampled_from((1, 2, 8)),
    tier_min=st.integers(0, 2),
    country=st.none() | st.sampled_from((*COUNTRIES, "US")),
    vram_mb_min=st.sampled_from((0, 16_000, 24_570, 24_576)),
    reputation_millis_min=st.sampled_from((0, 50, 51, 1000)),
)
moves = st.one_of(
    st.tuples(st.just("admit"), listings),
    st.tuples(st.just("lose"), st.sampled_from(NODES)),
    st.tuples(st.just("lease"), wishes),
    st.tuples(st.just("free"), st.lists(st.sampled_from(NODES), max_size=5)),
    st.tuples(st.just("rescore"), st.tuples(st.sampled_from(NODES), st.integers(0, 1000))),
)


def looked_for(known: dict[str, Listing], wish: Wish, exclude: set[str]) -> list[str] | None:
    """The gang as found by looking at every node."""
    for model in wish.models:
        fitting = [
            one
            for one in known.values()
            if one.free and one.model == model and fits(wish, one) and one.node_id not in exclude
        ]
        if len(fitting) >= wish.nodes:
            return [one.node_id for one in sorted(fitting, key=lambda one: one.rank)[: wish.nodes]]
    return None


def leased(one: Listing, now: int) -> Listing:
    return msgspec.structs.replace(one, free=False, last_leased_at=now, fence=one.fence + 1)


def apply(move: tuple[str, Any], fleet: Fleet, planner: Planner, known: dict[str, Listing], now: int) -> None:
    """One change, to the fleet and to what an onlooker keeps of it."""
    verb, what = move
    if verb == "admit":
        fleet.admit(what)
        known[what.node_id] = what
    elif verb == "lose":
        fleet.lose(what)
        known.pop(what, None)
    elif verb == "lease":
        plan = planner.plan(what)
        if plan is not None:
            fleet.lease(plan, now)
            known.update({node_id: leased(known[node_id], now) for node_id in plan.node_ids})
    elif verb == "free":
        fleet.free(what)
        known.update({i: msgspec.structs.replace(known[i], free=True) for i in what if i in known})
    else:
        node_id, millis = what
        fleet.rescore(node_id, millis)
        if node_id in known:
            known[node_id] = msgspec.structs.replace(known[node_id], reputation_millis=millis)


@settings(max_examples=300)
@given(fleets, st.lists(moves, max_size=30), st.lists(wishes, min_size=1, max_size=4), st.sets(st.sampled_from(NODES)))
def test_a_plan_is_what_looking_at_every_node_finds(
    start: list[Listing], history: list[tuple[str, Any]], asked: list[Wish], exclude: set[str]
) -> None:
    fleet, known = Fleet(start), {listing.node_id: listing for listing in start}
    planner = Planner(fleet)
    for now, move in enumerate(history):
        apply(move, fleet, planner, known, now)
    assert {node_id: fleet.listing(node_id) for node_id in fleet.rows} == known
    for wish in asked:
        for out in (set(), exclude):
            plan = planner.plan(wish, out)
            assert (list(plan.node_ids) if plan else None) == looked_for(known, wish, out)
            assert plan is None or list(plan.fences) == [known[node_id].fence for node_id in plan.node_ids]
    rebuilt = Planner(Fleet(sorted(known.values(), key=lambda one: one.last_leased_at)))
    assert [named(rebuilt.plan(wish)) for wish in asked] == [named(planner.plan(wish)) for wish in asked]


def named(plan: Plan | None) -> tuple[str, ...]:
    return plan.node_ids if plan else ()


@given(fleets, wishes)
def test_a_plan_changes_nothing(start: list[Listing], wish: Wish) -> None:
    fleet = Fleet(start)
    version, planner = fleet.version, Planner(fleet)
    assert planner.plan(wish) == planner.plan(wish)
    assert fleet.version == version
    assert [fleet.listing(one.node_id) for one in start] == start


@given(fleets, wishes)
def test_the_counts_are_those_of_every_node(start: list[Listing], wish: Wish) -> None:
    tests: list[Callable[[Listing], bool]] = [
        lambda one: one.model in wish.models,
        lambda one: one.units >= wish.gpus_min,
        lambda one: one.tier >= wish.tier_min,
        lambda one: wish.country in (None, one.country),
        lambda one: one.vram_mb >= wish.vram_mb_min,
        lambda one: one.reputation_millis >= wish.reputation_millis_min,
        lambda one: one.free,
    ]
    left, expected = start, []
    for holds in tests:
        left = [one for one in left if holds(one)]
        expected.append(len(left))
    assert [count for _, count in funnel(Fleet(start), wish)] == expected


def two_free() -> tuple[Fleet, Plan]:
    fleet = Fleet([Listing(node_id="a", model="A100"), Listing(node_id="b", model="A100")])
    plan = Planner(fleet).plan(Wish(models=("A100",), nodes=2))
    assert plan is not None
    return fleet, plan


@pytest.mark.parametrize("change", ["leased", "leased and freed", "lost", "lost and back in another row"])
def test_a_plan_on_a_fleet_that_has_changed_leases_nothing(change: str) -> None:
    fleet, plan = two_free()
    other = Planner(fleet).plan(Wish(models=("A100",), nodes=1), exclude={"a"})
    assert other is not None
    if change.startswith("leased"):
        fleet.lease(other, 1)
        if change.endswith("freed"):
            fleet.free(["b"])
    else:
        fleet.lose("b")
        if change.endswith("row"):
            fleet.admit(Listing(node_id="c", model="A100"))
            fleet.admit(Listing(node_id="b", model="A100"))
    version = fleet.version
    with pytest.raises(Stale):
        fleet.lease(plan, 2)
    assert fleet.version == version
    assert fleet.listing("a").free


def test_a_plan_is_good_as_long_as_its_own_nodes_have_not_changed() -> None:
    fleet, plan = two_free()
    fleet.admit(Listing(node_id="c", model="A100"))
    fleet.lease(plan, 7)
    assert fleet.listing("a") == Listing(node_id="a", model="A100", free=False, last_leased_at=7, fence=1)


def test_what_has_left_is_forgotten_and_its_room_used_again() -> None:
    fleet = Fleet()
    for number in range(5_000):
        fleet.admit(Listing(node_id=f"n{number}", model="A100"))
        if number >= 10:
            fleet.lose(f"n{number - 10}")
    assert len(fleet) == 10
    assert len(fleet.node_ids) <= 11
    assert funnel(fleet, Wish(models=("A100",), nodes=1))[-1] == ("free", 10)


def test_a_fleet_outgrows_its_first_columns() -> None:
    fleet = Fleet(Listing(node_id=f"n{number:05d}", model="A100", ask=number) for number in range(3_000))
    plan = Planner(fleet).plan(Wish(models=("A100",), nodes=2_500))
    assert plan is not None and plan.node_ids == tuple(f"n{number:05d}" for number in range(2_500))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=200), st.sets(st.integers(0, 60)))
def test_ranked_numbers_are_a_sorted_list(changes: list[tuple[bool, int]], start: set[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranked, "BLOCK", 4)
        model = sorted(start)
        numbers = Ranked(model)
        for add, number in changes:
            if add and number not in model:
                insort(model, number)
                numbers.add(number)
            elif not add and number in model:
                model.remove(number)
                numbers.remove(number)
            elif not add:
                with pytest.raises(KeyError):
                    numbers.remove(number)
            assert list(numbers) == model
            assert numbers.count == len(model)
            assert all(0 < len(block) <= 4 for block in numbers.blocks)
