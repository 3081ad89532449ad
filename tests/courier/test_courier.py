"""The courier on the real bus and object store: what crosses between a node and a partner, and what does not."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from libs import objects
from libs.clock import now_ms
from libs.ids import new_id
from services.courier.__main__ import service
from services.courier.settings import Settings
from tests.conftest import Running
from wire.booking import BookingEnded
from wire.job import (
    Artefact,
    JobAccepted,
    JobExited,
    JobFilesDelivered,
    JobFilesMissing,
    JobLog,
    JobResultDelivered,
    NodeJobLog,
)
from wire.message import encode
from wire.names import bucket_of_node, bucket_of_partner
from wire.values import Reason

NODE, OTHER_NODE = "U" + "A" * 55, "U" + "A" * 54 + "B"
PARTNER = "acme"
Courier = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def courier(running_service: Any, settings: Any) -> Courier:
    @asynccontextmanager
    async def run(**more: Any) -> AsyncIterator[Running]:
        own = await settings("courier", Settings, **more)
        async with running_service(service(own), own) as running:
            yield running

    return run


async def stored(running: Running, bucket: str, content: bytes, folder: Path) -> Artefact:
    """Put `content` into a bucket, as its owner would."""
    path = folder / new_id("file")
    path.write_bytes(content)
    await objects.bucket(running.client.jetstream(), bucket)
    digest, size = await objects.store(running.client.jetstream(), bucket, path)
    return Artefact(digest=digest, size=size)


async def content(running: Running, bucket: str, file: Artefact, folder: Path) -> bytes:
    path = folder / new_id("file")
    await objects.fetch(running.client.jetstream(), bucket, file.digest, file.size, path)
    return path.read_bytes()


def accepted(files: Artefact, job_id: str, node_id: str = NODE, attempt: int = 1) -> JobAccepted:
    return JobAccepted(
        partner=PARTNER, booking_id="bkg_1", job_id=job_id, node_id=node_id, files=files, attempt=attempt
    )


def exited(job_id: str, result: Artefact | None, node_id: str = NODE, attempt: int = 1) -> JobExited:
    return JobExited(
        node_id=node_id,
        partner="somebody_else",  # what a node says of the owner is not believed
        booking_id="bkg_1",
        job_id=job_id,
        attempt=attempt,
        status="succeeded",
        result=result,
    )


async def test_files_go_in_and_results_come_back(courier: Courier, tmp_path: Path) -> None:
    async with courier() as running:
        job_id = new_id("job")
        files = await stored(running, bucket_of_partner(PARTNER), b"work" * 100_000, tmp_path)
        await running.publish(accepted(files, job_id))
        delivered = await running.heard(JobFilesDelivered, job_id=job_id)
        assert (delivered.partner, delivered.node_id) == (PARTNER, NODE)
        assert await content(running, bucket_of_node(NODE), files, tmp_path) == b"work" * 100_000
        result = await stored(running, bucket_of_node(NODE), b"answer", tmp_path)
        await running.publish(exited(job_id, result))
        brought = await running.heard(JobResultDelivered, job_id=job_id)
        assert (brought.partner, brought.result, brought.refusal) == (PARTNER, result, None)
        assert await content(running, bucket_of_partner(PARTNER), result, tmp_path) == b"answer"


async def refusal_of(running: Running, file: Artefact) -> str:
    job_id = new_id("job")
    await running.publish(accepted(file, job_id))
    missing = await running.heard(JobFilesMissing, job_id=job_id)
    assert missing.refusal.reason is Reason.unknown_artefact
    return missing.refusal.detail


async def test_a_file_that_is_not_the_one_announced_is_not_carried(courier: Courier, tmp_path: Path) -> None:
    async with courier() as running:
        bucket = bucket_of_partner(PARTNER)
        whole = await stored(running, bucket, b"x" * 300_000, tmp_path)
        assert "No file" in await refusal_of(running, Artefact(digest="0" * 64, size=5))
        assert "announced" in await refusal_of(running, Artefact(digest=whole.digest, size=whole.size - 1))
        assert "announced" in await refusal_of(running, Artefact(digest=whole.digest, size=whole.size + 1))
        await describe(running, bucket, "1" * 64, {"nuid": await chunks_of(running, bucket, whole.digest)})
        assert "another digest" in await refusal_of(running, Artefact(digest="1" * 64, size=whole.size))


async def test_a_link_into_another_bucket_is_not_followed(courier: Courier, tmp_path: Path) -> None:
    """A partner must not have another's files read for him by a description that points there."""
    async with courier() as running:
        secret = await stored(running, bucket_of_partner("rival"), b"secret", tmp_path)
        await objects.bucket(running.client.jetstream(), bucket_of_partner(PARTNER))
        link = {"link": {"bucket": bucket_of_partner("rival"), "name": secret.digest}}
        for description in ({"nuid": "x", "options": link}, {"nuid": "../x"}, {"nuid": "*"}, {"nuid": 5.5}, {}):
            await describe(running, bucket_of_partner(PARTNER), secret.digest, description)
            assert "is not a file" in await refusal_of(running, secret)


async def describe(running: Running, bucket: str, name: str, description: dict[str, Any]) -> None:
    place = base64.urlsafe_b64encode(name.encode()).decode()
    body = json.dumps({"name": name, "bucket": bucket, **description}).encode()
    await running.client.jetstream().publish(f"$O.{bucket}.M.{place}", body, headers={"Nats-Rollup": "sub"})


async def chunks_of(running: Running, bucket: str, digest: str) -> str:
    store = await running.client.jetstream().object_store(bucket)
    return str((await store.get_info(digest)).nuid)


async def test_only_the_node_that_runs_a_job_may_deliver_for_it(courier: Courier, tmp_path: Path) -> None:
    async with courier() as running:
        job_id, files = new_id("job"), await stored(running, bucket_of_partner(PARTNER), b"work", tmp_path)
        await running.publish(accepted(files, job_id, attempt=1))
        await running.publish(accepted(files, job_id, node_id=OTHER_NODE, attempt=2))
        await running.heard(JobFilesDelivered, job_id=job_id, attempt=2)
        forged = await stored(running, bucket_of_node(NODE), b"forged", tmp_path)
        right = await stored(running, bucket_of_node(OTHER_NODE), b"right", tmp_path)
        await running.publish(exited(job_id, forged, NODE, attempt=1))
        await running.publish(exited(job_id, forged, NODE, attempt=2))
        await running.publish(exited(job_id, right, OTHER_NODE, attempt=1))
        await running.publish(exited(new_id("job"), forged, NODE))
        await running.publish(exited(job_id, right, OTHER_NODE, attempt=2))
        assert (await running.heard(JobResultDelivered, job_id=job_id)).result == right
        assert [event.result for event in running.all_heard(JobResultDelivered)] == [right]


async def test_log_lines_pass_from_the_right_node_within_bounds(courier: Courier, tmp_path: Path) -> None:
    async with courier(log_messages_per_second=5) as running:
        job_id, files = new_id("job"), await stored(running, bucket_of_partner(PARTNER), b"work", tmp_path)
        await running.publish(accepted(files, job_id))
        await running.heard(JobFilesDelivered, job_id=job_id)
        heard: list[bytes] = []

        async def hear(message: Any) -> None:
            heard.append(message.data)

        await running.client.subscribe(JobLog.pattern(partner=PARTNER), cb=hear)
        await asyncio.sleep(0.1)  # the view of the routes is read anew for an unknown job, but not at once again
        for node_id, booking_id in ((OTHER_NODE, "bkg_1"), (NODE, "bkg_2"), (NODE, "bkg_1")):
            await say_lines(running, node_id, booking_id, job_id, 1)
        await asyncio.sleep(0.5)
        assert [json.loads(body)["lines"] for body in heard] == [["line 0"]]
        await say_lines(running, NODE, "bkg_1", job_id, 100)
        await asyncio.sleep(0.5)
        assert len(heard) <= 2 * 5 + 1
        await running.publish(BookingEnded(partner=PARTNER, booking_id="bkg_1", reason="released", spans=()))
        await asyncio.sleep(2.5)
        heard.clear()
        await say_lines(running, NODE, "bkg_1", job_id, 1)
        await asyncio.sleep(0.5)
        assert not heard


async def say_lines(running: Running, node_id: str, booking_id: str, job_id: str, count: int) -> None:
    for number in range(count):
        said = NodeJobLog(
            id=new_id("log"),
            at=now_ms(),
            node_id=node_id,
            booking_id=booking_id,
            job_id=job_id,
            sequence=number,
            lines=(f"line {number}",),
        )
        await running.client.publish(said.subject(), encode(said))
    await running.client.publish(said.subject(), b"{not json")
    await running.client.flush()


def test_a_digest_is_of_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3_000_000)
    assert objects.digest_of(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
