"""Jobs: each handler loads the job and its booking, decides, records."""

from services.scheduler.domain import jobs
from services.scheduler.domain.jobs import Job, JobOutcome
from services.scheduler.refusals import refused
from services.scheduler.store import Rows
from wire.job import CancelJob, JobFilesDelivered, JobFilesMissing, JobResultDelivered, SubmitJob
from wire.values import Reason


async def submit_job(order: SubmitJob, rows: Rows) -> None:
    known = await rows.job(jobs.job_key(order))
    if known is None:
        booking = await rows.booking(order.partner, order.booking_id)
        await _record(rows, jobs.submit(order, booking))
    elif jobs.job_digest(known.order) != jobs.job_digest(order):
        detail = f"The job {order.job_id} is another one: a new job needs a new id."
        rows.say(refused(order, order.partner, Reason.id_reused, detail))


async def cancel_job(order: CancelJob, rows: Rows) -> None:
    job = await rows.job(jobs.job_key(order))
    if job is None:
        detail = f"There is no job {order.job_id} in a booking {order.booking_id} of yours."
        rows.say(refused(order, order.partner, Reason.unknown_booking, detail))
        return
    outcome = jobs.cancel(job)
    if not outcome.jobs and job.state not in jobs.OPEN:
        rows.say(refused(order, order.partner, Reason.already_ended, f"The job {order.job_id} is {job.state}."))
    await _record(rows, outcome)


async def deliver_files(said: JobFilesDelivered, rows: Rows) -> None:
    job = await _job(said, rows)
    booking = await rows.booking(said.partner, said.booking_id)
    if job is not None and booking is not None:
        await _record(rows, jobs.deliver(job, booking, said))


async def miss_files(said: JobFilesMissing, rows: Rows) -> None:
    if (job := await _job(said, rows)) is not None:
        await _record(rows, jobs.miss(job, said))


async def finish_job(said: JobResultDelivered, rows: Rows) -> None:
    if (job := await _job(said, rows)) is not None:
        await _record(rows, jobs.finish(job, said))


async def _job(said: JobFilesDelivered | JobFilesMissing | JobResultDelivered, rows: Rows) -> Job | None:
    return await rows.job({"partner": said.partner, "booking_id": said.booking_id, "job_id": said.job_id})


async def _record(rows: Rows, outcome: JobOutcome) -> None:
    await rows.save_jobs(outcome.jobs)
    rows.say(*outcome.say)
