"""The fold: whatever is repeated, lost or out of order, a booking ends where its messages say."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bivouac.view import STATES, BookingView, JobView, booking_after, booking_as_told, job_after, job_as_told
from wire.booking import (
    BookingEnded,
    BookingPlaced,
    BookingRefused,
    BookingSettled,
    BookingStatus,
    ClusterDegraded,
    ClusterReady,
    ClusterRestarting,
    NodeReplaced,
    ReplacementReady,
)
from wire.job import Artefact, JobAccepted, JobFinished, JobStarted, JobStatus
from wire.message import Message
from wire.values import ClusterRequest, LeaseTerms, Reason, Refusal, usd

A, B, C = ("U" + letter * 55 for letter in "ABC")
IDS: dict[str, Any] = {"partner": "acme", "booking_id": "bkg_1"}
REQUEST = ClusterRequest(nodes=2, model="CPU", duration_seconds=3600)
NEW = BookingView(booking_id="bkg_1")
READY = ClusterReady(**IDS, at=5, head_node_id=B, node_ids=(A, B), expires_at=9)
SETTLED = BookingSettled(**IDS, escrowed=usd(9), cost=usd(4), fee=usd(1), burned=usd(3), refunded=usd(5), uses=())
LIFE: list[Message] = [
    BookingPlaced(**IDS, request=REQUEST, max_total=usd(9)),
    READY,
    BookingEnded(**IDS, reason="released", spans=()),
    SETTLED,
]


def lease(node: str) -> LeaseTerms:
    return LeaseTerms(lease_id=f"lse_{node[1]}", node_id=node, fence=1, hourly=usd(1))


def after(*messages: Message) -> BookingView:
    view = NEW
    for message in messages:
        view = booking_after(view, message)
    return view


@given(st.permutations(LIFE), st.lists(st.sampled_from(LIFE), max_size=4))
def test_order_and_repeats_do_not_change_where_a_booking_ends(order: list[Message], repeats: list[Message]) -> None:
    view = after(*order, *repeats)
    assert (view.state, view.ready_at, view.settled) == ("settled", 5, SETTLED)
    assert view.over


@given(st.lists(st.sampled_from(LIFE)), st.sampled_from(["placed", "held", "starting", "ready", "ended", "settled"]))
def test_being_told_never_takes_a_booking_back(heard: list[Message], state: str) -> None:
    before = after(*heard)
    told = booking_as_told(before, BookingStatus(booking_id="bkg_1", state=state, request=REQUEST, max_total=usd(9)))
    assert STATES.index(told.state) >= STATES.index(before.state)


def test_the_nodes_follow_losses_and_replacements() -> None:
    assert after(READY).nodes == (B, A)
    replaced = NodeReplaced(**IDS, lost_node_id=A, lost_lease_id="lse_A", lease=lease(C))
    assert after(READY, replaced).nodes == (B, C)
    assert after(READY, replaced, ReplacementReady(**IDS, lease=lease(C), gap_ms=10)).nodes == (B, C)
    degraded = ClusterDegraded(**IDS, lost_node_id=A, refusal=Refusal(reason=Reason.no_capacity))
    assert after(READY, degraded).nodes == (B,)
    assert after(READY, degraded, ReplacementReady(**IDS, lease=lease(C), gap_ms=10)).nodes == (B, C)
    assert after(READY, ClusterRestarting(**IDS, lost_node_id=B, head_node_id=A, generation=2)).nodes == (A,)


def test_another_order_under_the_same_id_does_not_end_the_booking_that_has_it() -> None:
    reused = BookingRefused(**IDS, refusal=Refusal(reason=Reason.id_reused))
    assert after(READY, reused).state == "ready"
    assert after(reused).state == "refused"


def test_what_live_events_missed_is_told() -> None:
    ready = BookingStatus(
        booking_id="bkg_1", state="degraded", request=REQUEST, max_total=usd(9), node_ids=(A,), ready_at=5, expires_at=9
    )
    view = booking_as_told(NEW, ready)
    assert (view.state, view.nodes, view.ready_at, view.expires_at) == ("ready", (A,), 5, 9)
    refusal = Refusal(reason=Reason.no_capacity, nearest="1 node")
    refused = BookingStatus(booking_id="bkg_1", state="refused", request=REQUEST, max_total=usd(9), refusal=refusal)
    assert booking_as_told(NEW, refused).refusal == refusal


def test_a_job_runs_again_when_its_head_is_lost_and_older_attempts_no_longer_count() -> None:
    ids: dict[str, Any] = {**IDS, "job_id": "job_1"}
    files = Artefact(digest="0" * 64, size=1)
    view = JobView(job_id="job_1")
    for message in (
        JobAccepted(**ids, node_id=A, files=files),
        JobStarted(**ids, node_id=A),
        JobAccepted(**ids, node_id=B, files=files, attempt=2),
        JobStarted(**ids, node_id=A),
    ):
        view = job_after(view, message)
    assert (view.state, view.attempt) == ("accepted", 2)
    view = job_after(view, JobFinished(**ids, status="succeeded", attempt=2, result=files))
    assert view.over
    assert job_as_told(view, JobStatus(job_id="job_1", state="running", attempt=2)) == view
    assert job_after(view, JobAccepted(**ids, node_id=B, files=files, attempt=3)) == view
