"""Jobs on a cluster: accepted, delivered, run, finished; cancelled; accepted anew when the head is lost."""

from typing import Any

import pytest

from services.scheduler.fleet import lose_node
from tests.scheduler import builders
from tests.scheduler.driver import Driver, kinds, of, only
from wire.access import MessageRefused
from wire.booking import ClusterReady, ReleaseBooking
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
    RunJob,
    StopJob,
)
from wire.message import Message
from wire.node import StartRayNode
from wire.values import Reason, Refusal

KEY: dict[str, Any] = {"partner": "acme", "booking_id": "bkg_1", "job_id": "job_1"}
RESULT = Artefact(digest="b" * 64, size=7)


def delivered(accepted: JobAccepted, **changes: Any) -> JobFilesDelivered:
    return JobFilesDelivered(**{**KEY, "node_id": accepted.node_id, "attempt": accepted.attempt, **changes})


def exited(run: RunJob, **changes: Any) -> JobResultDelivered:
    values = {"node_id": run.node_id, "attempt": run.attempt, "status": "succeeded", "result": RESULT}
    return JobResultDelivered(**{**KEY, **values, **changes})


async def accept(driver: Driver) -> JobAccepted:
    await driver.join_nodes(1, 2, 3)
    await driver.run(builders.order())
    return only(await driver.feed(builders.job()), JobAccepted)


async def run(driver: Driver) -> RunJob:
    return only(await driver.feed(delivered(await accept(driver))), RunJob)


async def lose_head(driver: Driver) -> list[Message]:
    head = (await driver.booking()).head
    assert head is not None
    return await driver.work(lambda rows: lose_node(rows, head.node_id, None, "disconnected", driver.now))


async def test_a_job_from_submit_to_result(driver: Driver) -> None:
    accepted = await accept(driver)
    booking = await driver.booking()
    assert booking.head is not None
    assert accepted.node_id == booking.head.node_id
    said = await driver.feed(delivered(accepted))
    command = only(said, RunJob)
    assert (command.node_id, command.lease_id) == (booking.head.node_id, booking.head.lease_id)
    assert command.entrypoint == builders.job().entrypoint
    assert only(said, JobStarted).attempt == 1
    finished = only(await driver.feed(exited(command)), JobFinished)
    assert (finished.status, finished.result) == ("succeeded", RESULT)


async def test_repeats_are_harmless_and_a_reused_id_is_refused(driver: Driver) -> None:
    accepted = await accept(driver)
    assert await driver.feed(builders.job()) == []
    other = builders.job(entrypoint=("python", "other.py"))
    assert only(await driver.feed(other), MessageRefused).refusal.reason == Reason.id_reused
    command = only(await driver.feed(delivered(accepted)), RunJob)
    assert await driver.feed(delivered(accepted)) == []
    only(await driver.feed(exited(command)), JobFinished)
    assert await driver.feed(exited(command), delivered(accepted), builders.job()) == []


async def test_a_job_needs_a_cluster_of_ones_own_that_runs(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    assert await reason_of(driver, builders.job()) == Reason.unknown_booking
    held = await driver.hold(builders.order())
    assert await reason_of(driver, builders.job()) == Reason.not_ready
    commands = of(await driver.feed(builders.funded(held)), StartRayNode)
    assert await reason_of(driver, builders.job()) == Reason.not_ready
    await driver.feed(*(builders.started(command) for command in commands))
    assert await reason_of(driver, builders.job(partner="globex")) == Reason.unknown_booking
    await driver.feed(ReleaseBooking(partner="acme", booking_id="bkg_1"))
    assert await reason_of(driver, builders.job()) == Reason.already_ended


async def reason_of(driver: Driver, order: Any) -> Reason:
    return only(await driver.feed(order), JobRefused).refusal.reason


async def test_missing_files_refuse_the_job(driver: Driver) -> None:
    await accept(driver)
    refusal = Refusal(reason=Reason.unknown_artefact, detail="not there")
    missing = JobFilesMissing(**KEY, refusal=refusal)
    assert only(await driver.feed(missing), JobRefused).refusal == refusal
    assert await driver.feed(missing) == []


async def test_a_result_that_cannot_be_brought_is_a_failure(driver: Driver) -> None:
    command = await run(driver)
    refusal = Refusal(reason=Reason.artefact_too_large, detail="too large")
    finished = only(await driver.feed(exited(command, result=None, refusal=refusal)), JobFinished)
    assert (finished.status, finished.detail) == ("failed", "too large")


@pytest.mark.parametrize("status", ["stopped", "succeeded"])
async def test_a_running_job_is_cancelled_by_its_head(driver: Driver, status: str) -> None:
    command = await run(driver)
    stop = only(await driver.feed(CancelJob(**KEY)), StopJob)
    assert stop.node_id == command.node_id
    assert await driver.feed(CancelJob(**KEY)) == []
    assert only(await driver.feed(exited(command, status=status)), JobFinished).status == status
    assert only(await driver.feed(CancelJob(**KEY)), MessageRefused).refusal.reason == Reason.already_ended


async def test_a_job_that_does_not_run_yet_is_cancelled_at_once(driver: Driver) -> None:
    accepted = await accept(driver)
    assert only(await driver.feed(CancelJob(**KEY)), JobFinished).status == "stopped"
    assert await driver.feed(delivered(accepted)) == []
    unknown = CancelJob(partner="globex", booking_id="bkg_1", job_id="job_1")
    assert only(await driver.feed(unknown), MessageRefused).identity == "globex"


async def test_a_job_is_accepted_anew_when_its_head_is_lost(driver: Driver) -> None:
    first = await run(driver)
    said = await lose_head(driver)
    again = only(said, JobAccepted)
    assert (again.attempt, again.node_id != first.node_id) == (2, True)
    # The files arrive before the cluster is ready: the job waits for it.
    assert await driver.feed(delivered(again)) == []
    starts = of(said, StartRayNode)
    said = await driver.feed(*(builders.started(start) for start in starts))
    only(said, ClusterReady)
    second = only(said, RunJob)
    assert (second.attempt, second.node_id) == (2, again.node_id)
    # The lost head's report comes late: that attempt is void.
    assert await driver.feed(exited(first)) == []
    assert only(await driver.feed(exited(second)), JobFinished).attempt == 2


async def test_files_for_an_old_head_are_delivered_to_nobody(driver: Driver) -> None:
    first = await accept(driver)
    again = only(await lose_head(driver), JobAccepted)
    assert await driver.feed(delivered(first), delivered(again, node_id=first.node_id)) == []
    refusal = Refusal(reason=Reason.unknown_artefact, detail="gone")
    assert await driver.feed(JobFilesMissing(**KEY, attempt=1, refusal=refusal)) == []
    finished = only(await driver.feed(JobFilesMissing(**KEY, attempt=2, refusal=refusal)), JobFinished)
    assert finished.status == "failed"


async def test_a_job_is_taken_while_the_cluster_restarts(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    await driver.run(builders.order())
    starts = of(await lose_head(driver), StartRayNode)
    accepted = only(await driver.feed(builders.job()), JobAccepted)
    assert accepted.node_id == next(start.node_id for start in starts if start.role == "head")
    assert await driver.feed(delivered(accepted)) == []
    said = await driver.feed(*(builders.started(start) for start in starts))
    assert only(said, RunJob).attempt == 1


async def test_a_job_ends_with_its_booking(driver: Driver) -> None:
    command = await run(driver)
    said = await driver.feed(ReleaseBooking(partner="acme", booking_id="bkg_1"))
    assert only(said, JobFinished).status == "stopped"
    assert await driver.feed(exited(command)) == []


async def test_a_job_that_is_being_cancelled_is_not_run_again(driver: Driver) -> None:
    await run(driver)
    await driver.feed(CancelJob(**KEY))
    said = await lose_head(driver)
    assert only(said, JobFinished).status == "stopped"
    assert "JobAccepted" not in kinds(said)
