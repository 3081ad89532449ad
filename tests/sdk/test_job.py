"""Jobs on a real bus: files go out by digest, lines come live, results come back checked."""

import asyncio
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bivouac import BivouacError, Booking, Client, Damaged, JobFailed, Refused
from tests.sdk import told
from tests.sdk.conftest import Network
from wire.booking import GetBooking, PlaceBooking
from wire.job import Artefact, JobRefused, JobStatus, SubmitJob
from wire.names import bucket_of_partner
from wire.values import Reason, Refusal

ENTRY = ["python", "main.py"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "main.py").write_text("print('hello')")
    (directory / "weights.bin").write_bytes(bytes(range(256)) * 2000)
    return directory


async def place(client: Client, network: Network) -> Booking:
    network.on(PlaceBooking, told.ready)
    booking = await client.book(told.REQUEST, max_total="1")
    await booking.ready(5)
    booking.poll_seconds = 0.2
    return booking


async def store(network: Network, content: bytes, name: str | None = None) -> Artefact:
    """Put a file into the partner's bucket with NATS's own object store, as the courier does."""
    digest = name or hashlib.sha256(content).hexdigest()
    bucket = await network.stream.object_store(bucket_of_partner("acme"))
    await bucket.put(digest, content)
    return Artefact(digest=digest, size=len(content))


def zipped(**contents: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name.replace("_", "."), content)
    return made.getvalue()


async def test_files_go_out_lines_come_live_and_the_result_comes_back(
    client: Client, network: Network, files: Path, tmp_path: Path
) -> None:
    booking = await place(client, network)
    network.on(SubmitJob, told.accepted)
    seen: list[tuple[int, int]] = []
    job = await booking.run(
        ENTRY, files=files, environment={"REPEAT": "2"}, progress=lambda done, whole: seen.append((done, whole))
    )
    order = await network.told(SubmitJob)
    assert (order.entrypoint, order.environment) == (tuple(ENTRY), {"REPEAT": "2"})
    assert seen[-1] == (order.files.size, order.files.size)
    bucket = await network.stream.object_store(bucket_of_partner("acme"))
    fetched = await bucket.get(order.files.digest)  # NATS's own client reads it, and checks its digest
    assert hashlib.sha256(fetched.data or b"").hexdigest() == order.files.digest
    result = await store(network, zipped(summary_json="{}", predictions_csv="1\n" * 200_000))
    lines = job.logs()
    await network.say(told.log(order, 0, "one", "two"))
    assert [await anext(lines), await anext(lines)] == ["one", "two"]
    await network.say(told.log(order, 1, "three"), told.finished(order, result=result))
    assert [line async for line in lines] == ["three"]
    assert not job.missed_lines
    found = await job.result(tmp_path / "out")
    assert sorted(map(str, found)) == ["predictions.csv", "summary.json"]
    assert (tmp_path / "out" / "predictions.csv").stat().st_size == 400_000


async def test_the_same_files_are_sent_once(client: Client, network: Network, files: Path) -> None:
    booking = await place(client, network)
    network.on(SubmitJob, told.accepted)
    await booking.run(ENTRY, files=files)
    stream = f"OBJ_{bucket_of_partner('acme')}"
    before = (await network.stream.stream_info(stream)).state.messages
    await booking.run(ENTRY, files=files)
    assert (await network.stream.stream_info(stream)).state.messages == before


async def test_a_refused_job_raises(client: Client, network: Network, files: Path) -> None:
    booking = await place(client, network)
    refusal = Refusal(reason=Reason.not_ready, detail="The cluster is not ready.")
    network.on(SubmitJob, lambda order: JobRefused(**told.ids(order), job_id=order.job_id, refusal=refusal))
    with pytest.raises(Refused, match="not ready"):
        await booking.run(ENTRY, files=files)


async def test_an_end_that_was_not_heard_is_asked_for(
    client: Client, network: Network, files: Path, tmp_path: Path
) -> None:
    booking = await place(client, network)
    log = await store(network, b"all\nof it\n")
    result = await store(network, zipped(a_txt="1"))

    def answer(query: GetBooking) -> Any:
        order = network.heard[-1]
        assert isinstance(order, SubmitJob)
        job = JobStatus(job_id=order.job_id, state="succeeded", result=result, log=log)
        return told.status(query.booking_id, state="ready", ready_at=5, jobs=(job,))

    booking._order = None
    await network.answers(GetBooking, answer)
    job = await booking.run(ENTRY, files=files)
    assert [line async for line in job.logs()] == ["all", "of it"]
    assert await job.result(tmp_path / "out") == [Path("a.txt")]


async def test_lost_lines_are_noticed_and_the_whole_log_has_them(client: Client, network: Network, files: Path) -> None:
    booking = await place(client, network)
    network.on(SubmitJob, told.accepted)
    job = await booking.run(ENTRY, files=files)
    order = await network.told(SubmitJob)
    log = await store(network, b"zero\none\ntwo\n")
    await network.say(told.log(order, 0, "zero"), told.log(order, 2, "two"), told.finished(order, log=log))
    assert [line async for line in job.logs()] == ["zero", "two"]
    assert job.missed_lines
    assert await job.whole_log() == ["zero", "one", "two"]


async def test_a_failed_job_says_why(client: Client, network: Network, files: Path, tmp_path: Path) -> None:
    booking = await place(client, network)
    network.on(SubmitJob, lambda order: (told.accepted(order), told.finished(order, "failed", detail="exit code 3")))
    job = await booking.run(ENTRY, files=files)
    with pytest.raises(JobFailed, match="exit code 3"):
        await job.result(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def another_content(content: bytes) -> tuple[bytes, int]:
    return content[:-1] + b"?", len(content)


def longer_than_announced(content: bytes) -> tuple[bytes, int]:
    return content + b"more", len(content)


def shorter_than_announced(content: bytes) -> tuple[bytes, int]:
    return content[:-10], len(content)


@pytest.mark.parametrize("spoil", [another_content, longer_than_announced, shorter_than_announced])
async def test_a_result_that_is_not_what_was_announced_is_not_kept(
    client: Client, network: Network, files: Path, tmp_path: Path, spoil: Callable[[bytes], tuple[bytes, int]]
) -> None:
    booking = await place(client, network)
    content = zipped(a_txt="1")
    digest = hashlib.sha256(content).hexdigest()
    spoiled, size = spoil(content)
    await store(network, spoiled, digest)
    result = Artefact(digest=digest, size=size)
    network.on(SubmitJob, lambda order: (told.accepted(order), told.finished(order, result=result)))
    job = await booking.run(ENTRY, files=files)
    with pytest.raises(Damaged):
        await job.result(tmp_path / "out")
    assert not (tmp_path / "out").exists()


async def test_a_result_that_is_gone_is_said_to_be(
    client: Client, network: Network, files: Path, tmp_path: Path
) -> None:
    booking = await place(client, network)
    result = Artefact(digest="f" * 64, size=10)
    network.on(SubmitJob, lambda order: (told.accepted(order), told.finished(order, result=result)))
    job = await booking.run(ENTRY, files=files)
    with pytest.raises(BivouacError, match="no longer stored"):
        await job.result(tmp_path / "out")


async def test_two_who_listen_hear_the_same(client: Client, network: Network, files: Path) -> None:
    booking = await place(client, network)
    network.on(SubmitJob, told.accepted)
    job = await booking.run(ENTRY, files=files)
    order = await network.told(SubmitJob)

    async def listen() -> list[str]:
        return [line async for line in job.logs()]

    first = asyncio.create_task(listen())
    await network.say(*(told.log(order, number, f"line {number}") for number in range(500)))
    second = asyncio.create_task(listen())
    await network.say(told.finished(order))
    assert await first == await second == [f"line {number}" for number in range(500)]
