"""A job on a cluster: accepted, its files delivered, run by the head, finished; accepted anew when the head is lost."""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Literal, Self

import msgspec

from services.scheduler.domain.booking import UP, Booking, Lease, State
from services.scheduler.domain.states import Table, move
from wire.job import (
    Artefact,
    CancelJob,
    JobAccepted,
    JobFilesDelivered,
    JobFilesMissing,
    JobFinished,
    JobRefused,
    JobResultDelivered,
    JobStarted,
    JobStatus,
    RunJob,
    StopJob,
    SubmitJob,
)
from wire.message import Message
from wire.values import Reason, Refusal

Status = Literal["succeeded", "failed", "stopped"]


class JobState(StrEnum):
    """`accepted`: its files are on their way. `delivered`: they lie at the head, which is not ready yet."""

    accepted = "accepted"
    delivered = "delivered"
    running = "running"
    cancelling = "cancelling"
    refused = "refused"
    finished = "finished"


JOB_MOVES: Table[JobState] = {
    JobState.accepted: frozenset({JobState.delivered, JobState.refused, JobState.finished}),
    JobState.delivered: frozenset({JobState.running, JobState.accepted, JobState.finished}),
    JobState.running: frozenset({JobState.accepted, JobState.cancelling, JobState.finished}),
    JobState.cancelling: frozenset({JobState.finished}),
    JobState.refused: frozenset(),
    JobState.finished: frozenset(),
}
_DETAIL_TOLD = 500
OPEN = frozenset({JobState.accepted, JobState.delivered, JobState.running, JobState.cancelling})


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as one transaction sees it; `node_id` is the head that has its `attempt`."""

    order: SubmitJob
    state: JobState
    node_id: str
    attempt: int = 1
    status: Status | None = None
    detail: str = ""
    result: Artefact | None = None
    log: Artefact | None = None
    refusal: Refusal | None = None

    @property
    def key(self) -> dict[str, Any]:
        return job_key(self.order)

    def moved(self, state: JobState, **changes: Any) -> Self:
        return msgspec.structs.replace(self, state=move(JOB_MOVES, self.state, state), **changes)


class JobOutcome(msgspec.Struct, frozen=True):
    """Jobs that changed, and what is to be said about them."""

    jobs: tuple[Job, ...] = ()
    say: tuple[Message, ...] = ()


def job_key(order: SubmitJob | CancelJob) -> dict[str, Any]:
    """The ids that every message about the job carries."""
    return {"partner": order.partner, "booking_id": order.booking_id, "job_id": order.job_id}


def job_digest(order: SubmitJob) -> str:
    """SHA-256 of the order as JSON with sorted keys, `id`, `at` and `type` left out."""
    content = msgspec.to_builtins(order)
    for transport in ("id", "at", "type"):
        content.pop(transport, None)
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def submit(order: SubmitJob, booking: Booking | None) -> JobOutcome:
    """A new job, for the head of a cluster that runs or is restarting."""
    refusal = submit_refusal(order, booking)
    if refusal is not None or booking is None or booking.head is None:
        key = job_key(order)
        return JobOutcome(say=(JobRefused(refusal=refusal or Refusal(reason=Reason.not_ready), **key),))
    job = Job(order=order, state=JobState.accepted, node_id=booking.head.node_id)
    return JobOutcome((job,), (_accepted(job),))


def submit_refusal(order: SubmitJob, booking: Booking | None) -> Refusal | None:
    if booking is None:
        return Refusal(reason=Reason.unknown_booking, detail=f"There is no booking {order.booking_id} of yours.")
    if booking.over:
        return Refusal(reason=Reason.already_ended, detail=f"The booking {order.booking_id} is over.")
    if (booking.state not in UP and booking.state is not State.restarting) or booking.head is None:
        detail = f"The booking is {booking.state}: its cluster takes jobs once it is ready."
        return Refusal(reason=Reason.not_ready, detail=detail)
    return None


def deliver(job: Job, booking: Booking, said: JobFilesDelivered) -> JobOutcome:
    """The files of the present attempt are there: run it, or wait until the head is ready."""
    if job.state is not JobState.accepted or (said.attempt, said.node_id) != (job.attempt, job.node_id):
        return JobOutcome()
    delivered = job.moved(JobState.delivered)
    if booking.state in UP and booking.head is not None:
        return run(delivered, booking.head)
    return JobOutcome((delivered,))


def run(job: Job, head: Lease) -> JobOutcome:
    running = job.moved(JobState.running)
    order = RunJob(
        node_id=job.node_id,
        lease_id=head.lease_id,
        attempt=job.attempt,
        entrypoint=job.order.entrypoint,
        files=job.order.files,
        environment=job.order.environment,
        **job.key,
    )
    return JobOutcome((running,), (order, JobStarted(node_id=job.node_id, attempt=job.attempt, **job.key)))


def miss(job: Job, said: JobFilesMissing) -> JobOutcome:
    """The files could not be brought: the job is refused, or, having run once before, failed."""
    if job.state is not JobState.accepted or said.attempt != job.attempt:
        return JobOutcome()
    if job.attempt == 1:
        refused = job.moved(JobState.refused, refusal=said.refusal)
        return JobOutcome((refused,), (JobRefused(refusal=said.refusal, **job.key),))
    return _finish(job, "failed", said.refusal.detail)


def cancel(job: Job) -> JobOutcome:
    """A job that runs is stopped by its head, which then reports; any other is over at once."""
    if job.state is JobState.running:
        stop = StopJob(node_id=job.node_id, job_id=job.order.job_id)
        return JobOutcome((job.moved(JobState.cancelling),), (stop,))
    if job.state in (JobState.accepted, JobState.delivered):
        return _finish(job, "stopped", "Cancelled before it ran.")
    return JobOutcome()


def finish(job: Job, said: JobResultDelivered) -> JobOutcome:
    """The head's report on the present attempt; one whose files could not be brought has failed."""
    present = (said.attempt, said.node_id) == (job.attempt, job.node_id)
    if job.state not in (JobState.running, JobState.cancelling) or not present:
        return JobOutcome()
    if said.refusal is not None:
        return _finish(job, "failed", said.refusal.detail)
    done = job.moved(JobState.finished, status=said.status, detail=said.detail, result=said.result, log=said.log)
    word = JobFinished(
        status=said.status,
        detail=said.detail,
        attempt=job.attempt,
        result=said.result,
        log=said.log,
        **job.key,
    )
    return JobOutcome((done,), (word,))


def told(job: Job) -> JobStatus:
    """The job as its partner may know it; whether its files or its lines are under way is no state of his."""
    states: dict[JobState, Literal["accepted", "running", "refused"]] = {
        JobState.accepted: "accepted",
        JobState.delivered: "accepted",
        JobState.running: "running",
        JobState.cancelling: "running",
        JobState.refused: "refused",
    }
    return JobStatus(
        job_id=job.order.job_id,
        state=job.status or states[job.state],
        attempt=job.attempt,
        detail=job.detail[:_DETAIL_TOLD],
        result=job.result,
        log=job.log,
        refusal=job.refusal,
    )


def follow(before: Booking, after: Booking, jobs: Iterable[Job]) -> JobOutcome:
    """What a change of their booking means for its open jobs."""
    head = after.head
    found = [_follow(before, after, head, job) for job in jobs]
    return JobOutcome(
        tuple(job for outcome in found for job in outcome.jobs),
        tuple(word for outcome in found for word in outcome.say),
    )


def touches_jobs(before: Booking, after: Booking) -> bool:
    """Whether `follow` can have anything to say."""
    return before.state is not after.state or before.generation != after.generation


def _follow(before: Booking, after: Booking, head: Lease | None, job: Job) -> JobOutcome:
    if after.over:
        return _finish(job, "stopped", f"The booking ended: {after.end_reason or 'refused'}.")
    if after.generation != before.generation and head is not None:
        return _accept_again(job, head)
    if after.state in UP and job.state is JobState.delivered and head is not None:
        return run(job, head)
    return JobOutcome()


def _accept_again(job: Job, head: Lease) -> JobOutcome:
    """On the new head, from the start."""
    if job.state is JobState.cancelling:
        return _finish(job, "stopped", "Its head node was lost while it was being cancelled.")
    # Files on their way to a lost head are delivered to nobody; that attempt is void like any other.
    state = job.state if job.state is JobState.accepted else move(JOB_MOVES, job.state, JobState.accepted)
    again = msgspec.structs.replace(job, state=state, node_id=head.node_id, attempt=job.attempt + 1)
    return JobOutcome((again,), (_accepted(again),))


def _accepted(job: Job) -> JobAccepted:
    return JobAccepted(node_id=job.node_id, files=job.order.files, attempt=job.attempt, **job.key)


def _finish(job: Job, status: Status, detail: str) -> JobOutcome:
    done = job.moved(JobState.finished, status=status, detail=detail)
    return JobOutcome((done,), (JobFinished(status=status, detail=detail, attempt=job.attempt, **job.key),))
