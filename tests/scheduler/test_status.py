"""What a partner is told who asks: why a booking never began, and how each of its jobs stands or ended."""

from services.scheduler.handlers import JOBS_TOLD
from tests.scheduler import builders
from tests.scheduler.driver import Driver, only
from tests.scheduler.test_jobs import KEY, RESULT, accept, delivered, exited
from wire.booking import BookingList, BookingRefused, BookingStatus, GetBooking, ListBookings, ReleaseBooking
from wire.job import JobFilesMissing, JobStatus, RunJob
from wire.values import Reason, Refusal

LOG = builders.job().files


async def status(driver: Driver) -> BookingStatus:
    told = await driver.ask(GetBooking(partner="acme", booking_id="bkg_1"))
    assert isinstance(told, BookingStatus)
    return told


async def test_why_a_booking_was_refused_is_told_with_what_is_nearest(driver: Driver) -> None:
    await driver.join_nodes(1)
    order = builders.order()
    refused = only(await driver.feed(order, builders.quoted(order)), BookingRefused)
    assert refused.refusal.nearest
    assert (await status(driver)).refusal == refused.refusal
    listed = await driver.ask(ListBookings(partner="acme"))
    assert isinstance(listed, BookingList)
    assert [row.refusal for row in listed.bookings] == [refused.refusal]


async def test_a_job_is_told_at_every_step(driver: Driver) -> None:
    accepted = await accept(driver)
    assert (await status(driver)).jobs == (JobStatus(job_id="job_1", state="accepted"),)
    command = only(await driver.feed(delivered(accepted)), RunJob)
    assert (await status(driver)).jobs == (JobStatus(job_id="job_1", state="running"),)
    await driver.feed(exited(command, status="failed", detail="exit code 3", log=LOG))
    done = JobStatus(job_id="job_1", state="failed", detail="exit code 3", result=RESULT, log=LOG)
    assert (await status(driver)).jobs == (done,)
    await driver.feed(ReleaseBooking(partner="acme", booking_id="bkg_1"))
    assert (await status(driver)).jobs == (done,)


async def test_why_a_job_was_refused_is_told(driver: Driver) -> None:
    await accept(driver)
    refusal = Refusal(reason=Reason.unknown_artefact, detail="No such file.", nearest="Upload it.")
    await driver.feed(JobFilesMissing(**KEY, refusal=refusal))
    assert (await status(driver)).jobs == (JobStatus(job_id="job_1", state="refused", refusal=refusal),)


async def test_the_newest_jobs_are_told(driver: Driver) -> None:
    await accept(driver)
    for number in range(JOBS_TOLD):
        driver.now += 1
        await driver.feed(builders.job(f"more_{number}"))
    told = [job.job_id for job in (await status(driver)).jobs]
    assert told == [f"more_{number}" for number in reversed(range(JOBS_TOLD))]
