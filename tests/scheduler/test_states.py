"""Every state and every move: what the tables allow happens, all else raises and changes nothing."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import pytest

from services.scheduler.domain.booking import LEASE_MOVES, MOVES, OVER, Lease, LeaseState, State, placed
from services.scheduler.domain.jobs import JOB_MOVES, OPEN, Job, JobState
from services.scheduler.domain.node import NODE_MOVES, NodeState
from services.scheduler.domain.states import IllegalMove, Table, move
from tests.scheduler import builders
from wire.values import PortBlock, usd

TABLES: list[tuple[type[StrEnum], Table[Any]]] = [
    (State, MOVES),
    (LeaseState, LEASE_MOVES),
    (JobState, JOB_MOVES),
    (NodeState, NODE_MOVES),
]
EVERY_MOVE = [(table, here, there) for states, table in TABLES for here in states for there in states]


@pytest.mark.parametrize(("states", "table"), TABLES)
def test_a_table_names_every_state(states: type[StrEnum], table: Table[Any]) -> None:
    assert set(table) == set(states)
    assert all(there in states for moves in table.values() for there in moves)


@pytest.mark.parametrize(("table", "here", "there"), EVERY_MOVE)
def test_a_move_is_in_the_table_or_raises(table: Table[Any], here: Any, there: Any) -> None:
    if there in table[here]:
        assert move(table, here, there) is there
    else:
        with pytest.raises(IllegalMove, match=f"from {here} to {there}"):
            move(table, here, there)


@pytest.mark.parametrize("there", list(State))
@pytest.mark.parametrize("here", list(State))
def test_a_booking_moves_as_its_table_says(here: State, there: State) -> None:
    booking = placed(builders.order(), builders.T0).changed(state=here)
    if there in MOVES[here]:
        moved = booking.moved(there, builders.T0 + 1)
        assert (moved.state, moved.since) == (there, builders.T0 + 1)
    else:
        with pytest.raises(IllegalMove):
            booking.moved(there, builders.T0 + 1)
    assert (booking.state, booking.since) == (here, builders.T0)


def lease(state: LeaseState) -> Lease:
    return Lease(
        lease_id="lse_1",
        place=0,
        node_id=builders.node_id(1),
        fence=1,
        hourly=usd(1),
        address="127.0.0.1",
        ports=PortBlock(first=20_000, count=100),
        gpus=1,
        state=state,
        granted_at=builders.T0,
    )


@pytest.mark.parametrize("here", list(LeaseState))
def test_a_lease_moves_as_its_table_says(here: LeaseState) -> None:
    before = lease(here)
    acts: dict[LeaseState, Callable[[], Lease]] = {
        LeaseState.active: before.activated,
        LeaseState.ended: lambda: before.over("released", builders.T0),
    }
    for then, act in acts.items():
        if then in LEASE_MOVES[here]:
            assert act().state is then
        else:
            with pytest.raises(IllegalMove):
                act()
        assert before == lease(here)


@pytest.mark.parametrize("there", list(JobState))
@pytest.mark.parametrize("here", list(JobState))
def test_a_job_moves_as_its_table_says(here: JobState, there: JobState) -> None:
    job = Job(order=builders.job(), state=here, node_id=builders.node_id(1))
    if there in JOB_MOVES[here]:
        assert job.moved(there).state is there
    else:
        with pytest.raises(IllegalMove):
            job.moved(there)
    assert job.state is here


def test_what_is_over_never_runs_again() -> None:
    assert all(MOVES[state] <= OVER for state in OVER)
    assert all(not JOB_MOVES[state] for state in JobState if state not in OPEN)


def test_a_lease_never_runs_for_less_than_nothing() -> None:
    running = lease(LeaseState.active).changed(started_at=builders.T0 + 5)
    assert running.over("node_lost", builders.T0).ended_at == builders.T0 + 5
