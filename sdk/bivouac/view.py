"""How a booking and its jobs stand, folded from what was heard; repeats and reordering do not change the outcome."""

from typing import Literal

import msgspec

from wire.booking import (
    BookingEnded,
    BookingPlaced,
    BookingQuoted,
    BookingRefused,
    BookingSettled,
    BookingStatus,
    ClusterDegraded,
    ClusterReady,
    ClusterRestarting,
    EscrowFunded,
    NodeReplaced,
    NodesHeld,
    ReplacementReady,
)
from wire.job import Artefact, JobAccepted, JobFinished, JobRefused, JobStarted, JobStatus
from wire.message import Message, UnixMs
from wire.quote import Quote
from wire.values import NodeId, Reason, Refusal

JobState = Literal["submitted", "accepted", "running", "refused", "succeeded", "failed", "stopped"]
# A booking only moves forward along this line; `refused` and `settled` are its two ends. What the scheduler calls
# degraded or restarting is still `ready` here: it became ready once and is not over.
STATES = ("placing", "placed", "quoted", "held", "escrowed", "ready", "ended", "settled", "refused")
OVER = ("settled", "refused")


class BookingView(msgspec.Struct, frozen=True, kw_only=True):
    """A booking as its partner knows it; `nodes` is who is in the cluster, head first."""

    booking_id: str
    state: str = "placing"
    quote: Quote | None = None
    nodes: tuple[NodeId, ...] = ()
    ready_at: UnixMs = 0
    expires_at: UnixMs = 0
    refusal: Refusal | None = None
    ended: BookingEnded | None = None
    settled: BookingSettled | None = None

    @property
    def gone(self) -> bool:
        """The cluster is no more, or never was."""
        return self.state in ("ended", *OVER)

    @property
    def over(self) -> bool:
        """Nothing will happen to this booking any more."""
        return self.state in OVER


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job as its partner knows it."""

    job_id: str
    state: JobState = "submitted"
    attempt: int = 1
    detail: str = ""
    result: Artefact | None = None
    log: Artefact | None = None
    refusal: Refusal | None = None

    @property
    def over(self) -> bool:
        return self.state in ("refused", "succeeded", "failed", "stopped")


def booking_after(view: BookingView, message: Message) -> BookingView:
    """The booking once `message` was heard; messages that change nothing a partner waits for leave it as it is."""
    match message:
        case BookingPlaced():
            return _forward(view, "placed")
        case BookingQuoted(quote=quote):
            return _forward(view, "quoted", quote=quote)
        case NodesHeld(leases=leases):
            return _forward(view, "held", nodes=view.nodes or tuple(lease.node_id for lease in leases))
        case EscrowFunded():
            return _forward(view, "escrowed")
        case ClusterReady(head_node_id=head, node_ids=nodes, at=at, expires_at=expires):
            ordered = (head, *(node for node in nodes if node != head))
            return _forward(view, "ready", nodes=ordered, ready_at=view.ready_at or at, expires_at=expires)
        case BookingRefused(refusal=refusal) if refusal.reason is Reason.id_reused and view.state != "placing":
            return view  # another order under this id was refused, not this booking
        case BookingRefused(refusal=refusal):
            return _forward(view, "refused", refusal=refusal)
        case BookingEnded(refusal=refusal, reason=reason):
            state = "refused" if reason == "refused" else "ended"
            return _forward(view, state, ended=message, refusal=view.refusal or refusal)
        case BookingSettled():
            return _forward(view, "settled", settled=message)
    return _nodes_after(view, message)


def _nodes_after(view: BookingView, message: Message) -> BookingView:
    match message:
        case NodeReplaced(lost_node_id=lost, lease=lease):
            places = tuple(lease.node_id if node == lost else node for node in view.nodes)
            return msgspec.structs.replace(view, nodes=places)
        case ReplacementReady(lease=lease) if lease.node_id not in view.nodes:
            return msgspec.structs.replace(view, nodes=(*view.nodes, lease.node_id))
        case ClusterDegraded(lost_node_id=lost):
            return msgspec.structs.replace(view, nodes=tuple(node for node in view.nodes if node != lost))
        case ClusterRestarting(head_node_id=head, lost_node_id=lost):
            rest = (node for node in view.nodes if node not in (head, lost))
            return msgspec.structs.replace(view, nodes=(head, *rest))
    return view


def booking_as_told(view: BookingView, status: BookingStatus) -> BookingView:
    """The booking once the scheduler was asked: what makes up for live events that were lost."""
    refusal = status.refusal or view.refusal
    nodes = status.node_ids or view.nodes
    known = {"nodes": nodes, "refusal": refusal, "expires_at": status.expires_at or view.expires_at}
    state = "escrowed" if status.state == "starting" else status.state
    if state in STATES and state not in ("placing", "ready"):
        view = _forward(view, state)
    if status.ready_at and view.state not in ("ended", "settled", "refused"):
        view = _forward(view, "ready", ready_at=status.ready_at)
    return msgspec.structs.replace(view, **known)


def job_after(view: JobView, message: Message) -> JobView:
    """The job once `message` was heard. A job whose head was lost runs again: an older attempt no longer counts."""
    if view.over:
        return view
    match message:
        case JobRefused(refusal=refusal):
            return msgspec.structs.replace(view, state="refused", refusal=refusal)
        case JobAccepted(attempt=attempt) if attempt > view.attempt or view.state == "submitted":
            return msgspec.structs.replace(view, state="accepted", attempt=attempt)
        case JobStarted(attempt=attempt) if attempt >= view.attempt:
            return msgspec.structs.replace(view, state="running", attempt=attempt)
        case JobFinished(status=status, attempt=attempt, detail=detail, result=result, log=log):
            return msgspec.structs.replace(view, state=status, attempt=attempt, detail=detail, result=result, log=log)
    return view


def job_as_told(view: JobView, status: JobStatus) -> JobView:
    if view.over:
        return view
    return JobView(
        job_id=view.job_id,
        state=status.state,
        attempt=status.attempt,
        detail=status.detail,
        result=status.result,
        log=status.log,
        refusal=status.refusal,
    )


def _forward(view: BookingView, state: str, **changes: object) -> BookingView:
    if STATES.index(state) > STATES.index(view.state):
        changes["state"] = state
    return msgspec.structs.replace(view, **changes)
