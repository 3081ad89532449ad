"""Bad input to a cluster that is ready, with a real Ray node: jobs that cannot be, jobs and bookings that are over."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from libs.ids import new_id
from tests.e2e.bus import Bus, opened
from tests.e2e.command_line import Told
from tests.e2e.network import LiveNetwork
from tests.e2e.test_bad_input_elsewhere import submit
from wire.border import CHUNK, META
from wire.job import Artefact, CancelJob, JobFinished
from wire.message import encode
from wire.names import JETSTREAM_DOMAIN, bucket_of_partner
from wire.values import Reason

PARTNER = "solvent"
pytestmark = pytest.mark.slow


class Cluster:
    """A booking of one node, ready."""

    def __init__(self, network: LiveNetwork, bus: Bus, booking_id: str) -> None:
        self.network, self.bus, self.booking_id = network, bus, booking_id

    async def bivouac(self, *words: str, place: Path | None = None) -> Told:
        return await self.network.command(*words, as_=PARTNER, place=place)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(live_network: LiveNetwork) -> AsyncIterator[Cluster]:
    await asyncio.to_thread(live_network.admit, PARTNER, "5")
    booking_id = new_id("bkg")
    async with opened(live_network, PARTNER) as bus:
        told = await live_network.command(
            "book", "--model", "CPU", "--yes", "--booking-id", booking_id, "--json", as_=PARTNER
        )
        assert told.code == 0, told
        yield Cluster(live_network, bus, booking_id)
        await live_network.command("release", booking_id, as_=PARTNER)


async def test_files_that_were_never_stored_are_refused(cluster: Cluster) -> None:
    job = submit(cluster.booking_id, PARTNER)
    await cluster.bus.publish(PARTNER, job)
    refusal = await cluster.bus.refusal(job.job_id)
    assert refusal.reason is Reason.unknown_artefact
    assert "upload" in refusal.nearest.lower()


@pytest.mark.parametrize("wrong", ["another digest", "fewer bytes", "more bytes"])
async def test_files_that_are_not_what_they_are_named_are_refused(wrong: str, cluster: Cluster) -> None:
    content = wrong.encode()
    digest = hashlib.sha256(b"what was announced" if wrong == "another digest" else content).hexdigest()
    size = len(content) + {"fewer bytes": 1, "more bytes": -1}.get(wrong, 0)
    bucket, stream = bucket_of_partner(PARTNER), cluster.bus.clients[PARTNER].jetstream(domain=JETSTREAM_DOMAIN)
    await stream.publish(CHUNK.format(bucket=bucket).replace("*", digest[:20]), content)
    name = base64.urlsafe_b64encode(digest.encode()).decode()
    description = {"name": digest, "bucket": bucket, "nuid": digest[:20], "size": size, "chunks": 1}
    await stream.publish(META.format(bucket=bucket).replace("*", name), json.dumps(description).encode())
    job = submit(cluster.booking_id, PARTNER, files=Artefact(digest=digest, size=size))
    await cluster.bus.publish(PARTNER, job)
    assert (await cluster.bus.refusal(job.job_id)).reason is Reason.unknown_artefact


async def test_a_job_that_was_refused_stays_refused(cluster: Cluster) -> None:
    """Its id is used up: said again it is the same job, and another one under that id is none."""
    job = submit(cluster.booking_id, PARTNER)
    await cluster.bus.publish(PARTNER, job)
    assert (await cluster.bus.refusal(job.job_id)).reason is Reason.unknown_artefact
    other = submit(cluster.booking_id, PARTNER, job_id=job.job_id, entrypoint=("true",))
    await cluster.bus.publish(PARTNER, other)
    assert (await cluster.bus.refusal(job.job_id)).reason is Reason.id_reused
    cancel = CancelJob(id=new_id("msg"), partner=PARTNER, booking_id=cluster.booking_id, job_id=job.job_id)
    await cluster.bus.publish(PARTNER, cancel)
    assert (await cluster.bus.refusal(job.job_id)).reason is Reason.already_ended
    told = await cluster.bivouac("logs", cluster.booking_id, job.job_id, "--json")
    assert (told.code, told.error["reason"]) == (1, Reason.unknown_artefact)


async def test_a_job_without_files_or_with_a_bad_word_is_not_sent(cluster: Cluster, tmp_path: Path) -> None:
    run = ("run", cluster.booking_id, "--json", "--files")
    (tmp_path / "empty").mkdir()
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "main.py").write_text("print('seen')")
    for words in (
        (*run, "/nowhere/at/all", "--", "true"),
        (*run, "empty", "--", "true"),
        (*run, "some", "--env", "path=1", "--", "true"),
        (*run, "some", "--env", "A", "--", "true"),
        (*run, "some", "--", "a\0b"),
        (*run, "some", "--", ""),
        (*run, "some", "--out", "some", "--", "true"),
    ):
        told = await cluster.bivouac(*words, place=tmp_path)
        assert (told.code, told.error["reason"]) == (2, "usage"), words


async def test_a_job_that_fails_says_how_and_is_found_again_later(cluster: Cluster, tmp_path: Path) -> None:
    """Later means: by another command, long after the events of it have gone by."""
    (tmp_path / "main.py").write_text("import sys; print('before the end'); print(chr(0)); sys.exit(7)")
    told = await cluster.bivouac("run", cluster.booking_id, "--files", ".", "--", "python", "main.py", place=tmp_path)
    assert told.code == 7, told
    assert "before the end" in told.out
    (job_id,) = {message.job_id for message in cluster.bus.heard if isinstance(message, JobFinished)}
    again = await cluster.bivouac("logs", cluster.booking_id, job_id)
    assert (again.code, "before the end" in again.out) == (7, True), again
    result = await cluster.bivouac("result", cluster.booking_id, job_id, "--json", place=tmp_path)
    assert result.code == 1 and "exit code 7" in result.error["detail"], result


async def test_a_release_said_again_shows_the_same_receipt(cluster: Cluster) -> None:
    receipts = [(await cluster.bivouac("release", cluster.booking_id, "--json")).document for _ in range(2)]
    assert receipts[0] == receipts[1]
    job = submit(cluster.booking_id, PARTNER)
    await cluster.bus.publish_raw(PARTNER, job.subject(), encode(job))
    assert (await cluster.bus.refusal(job.job_id)).reason is Reason.already_ended
    told = await cluster.bivouac(
        "run", cluster.booking_id, "--files", str(Path(__file__).parent), "--json", "--", "true"
    )
    assert (told.code, told.error["reason"]) == (1, Reason.already_ended)
    money = receipts[0]
    assert money["escrowed"]["amount"] == money["cost"]["amount"] + money["refunded"]["amount"]
    assert (await cluster.bivouac("balance", "--json")).document["in_escrow"]["amount"] == 0
