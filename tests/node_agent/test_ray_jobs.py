"""What a job prints and leaves is read as a hostile stranger's, and the head's answers are bounded."""

import asyncio
import os
import zipfile
from pathlib import Path

import pytest

from services.node_agent import ray_jobs
from services.node_agent.ray_jobs import Head, RayApi, RayJob, RayRefused, TooLarge

TOKEN = "5" * 64


class FakeHead:
    """An HTTP server that answers with what it is given, in order, and remembers what it was asked."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.asked: list[bytes] = []

    async def __aenter__(self) -> "FakeHead":
        self._server = await asyncio.start_server(self._answer, "127.0.0.1")
        self.api = RayApi(self._server.sockets[0].getsockname()[1], TOKEN)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        self.asked.append(head + await reader.readexactly(length))
        writer.write(self._answers.pop(0))
        writer.close()


def answer(body: str, status: int = 200) -> bytes:
    return f"HTTP/1.0 {status} Said\r\nContent-Type: application/json\r\n\r\n{body}".encode()


async def test_answers_are_read_and_refusals_told() -> None:
    async with FakeHead(answer("[1]"), answer("no such job", 404), b"") as head:
        assert await head.api.ask("POST", "/there", b"asked") == b"[1]"
        with pytest.raises(RayRefused, match="404: no such job"):
            await head.api.ask("GET", "/gone")
        with pytest.raises(ConnectionResetError):
            await head.api.ask("GET", "/gone")
    assert f"Authorization: Bearer {TOKEN}".encode() in head.asked[0]
    assert head.asked[0].endswith(b"\r\n\r\nasked")


async def test_an_endless_answer_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_jobs, "_ANSWER_BYTES_MAX", 1000)
    async with FakeHead(answer("x" * 2000)) as head:
        with pytest.raises(TooLarge):
            await head.api.ask("GET", "/endless")


@pytest.fixture
def stage(tmp_path: Path) -> tuple[Path, RayJob]:
    """The directory of a head in which a job has begun; nothing answers for it."""
    (tmp_path / "session_1" / "logs").mkdir(parents=True)
    (tmp_path / "result" / "job-1").mkdir(parents=True)
    (tmp_path / "secret").write_text("the agent's")
    return tmp_path, RayJob(Head(RayApi(1, TOKEN), tmp_path, tmp_path, "session_1"), "job-1")


async def test_lines_are_followed_and_bounded(stage: tuple[Path, RayJob], monkeypatch: pytest.MonkeyPatch) -> None:
    directory, _ = stage
    monkeypatch.setattr(ray_jobs, "LOG_BYTES_MAX", 6000)
    log = directory / "session_1" / "logs" / "job-driver-job-1.log"
    log.write_bytes(b"first\r\n\xff\n" + b"x" * 5000)
    states = [answer(f'{{"status": "{status}"}}') for status in ("PENDING", "RUNNING", "SUCCEEDED")]
    async with FakeHead(*states) as fake:
        job = RayJob(Head(fake.api, directory, directory, "session_1"), "job-1")
        lines = [line async for some in job.lines() for line in some]
    assert lines == ["first", "\ufffd", "x" * ray_jobs.LINE_CHARACTERS_MAX]


async def test_a_log_that_never_ends_is_cut(stage: tuple[Path, RayJob], monkeypatch: pytest.MonkeyPatch) -> None:
    directory, _ = stage
    monkeypatch.setattr(ray_jobs, "LOG_BYTES_MAX", 10)
    (directory / "session_1" / "logs" / "job-driver-job-1.log").write_text("line\n" * 1000)
    async with FakeHead(answer('{"status": "FAILED"}')) as fake:
        job = RayJob(Head(fake.api, directory, directory, "session_1"), "job-1")
        lines = [line async for some in job.lines() for line in some]
    assert lines == ["line", "line", "[the log is longer than 10 bytes; the rest is not shown]"]


@pytest.mark.parametrize("trick", ["link", "pipe", "linked directory"])
def test_a_log_that_is_no_file_is_not_read(stage: tuple[Path, RayJob], trick: str) -> None:
    directory, job = stage
    logs = directory / "session_1" / "logs"
    if trick == "linked directory":
        logs.rmdir()
        (directory / "elsewhere").mkdir()
        (directory / "elsewhere" / "job-driver-job-1.log").write_text("the agent's")
        logs.symlink_to(directory / "elsewhere")
    elif trick == "pipe":
        os.mkfifo(logs / "job-driver-job-1.log")
    else:
        (logs / "job-driver-job-1.log").symlink_to(directory / "secret")
    job.save_log(directory / "saved")
    assert (directory / "saved").read_bytes() == b""


def test_results_are_regular_files_only(stage: tuple[Path, RayJob]) -> None:
    directory, job = stage
    results = directory / "result" / "job-1"
    (results / "deep" / "er").mkdir(parents=True)
    (results / "deep" / "er" / "model.bin").write_bytes(b"weights")
    (results / "link").symlink_to(directory / "secret")
    (results / "all").symlink_to(directory)
    os.mkfifo(results / "pipe")
    (results / os.fsdecode(b"odd\xff")).write_text("odd")
    assert job.save_results(directory / "zip") == 2
    archive = zipfile.ZipFile(directory / "zip")
    assert {name: archive.read(name) for name in archive.namelist()} == {
        "deep/er/model.bin": b"weights",
        "odd?": b"odd",
    }


def test_a_result_directory_that_is_a_link_is_not_followed(stage: tuple[Path, RayJob]) -> None:
    directory, job = stage
    (directory / "result" / "job-1").rmdir()
    (directory / "result" / "job-1").symlink_to("/etc")
    assert job.save_results(directory / "zip") == 0


@pytest.mark.parametrize(("name", "limit"), [("RESULT_BYTES_MAX", 10), ("RESULT_FILES_MAX", 1), ("_DEPTH_MAX", 0)])
def test_results_are_bounded(
    stage: tuple[Path, RayJob], monkeypatch: pytest.MonkeyPatch, name: str, limit: int
) -> None:
    directory, job = stage
    (directory / "result" / "job-1" / "deep" / "er").mkdir(parents=True)
    for number in range(3):
        (directory / "result" / "job-1" / "deep" / str(number)).write_bytes(b"x" * 8)
    monkeypatch.setattr(ray_jobs, name, limit)
    with pytest.raises(TooLarge):
        job.save_results(directory / "zip")


async def test_files_too_large_for_ray_are_refused_before_they_are_sent(
    stage: tuple[Path, RayJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, _ = stage
    monkeypatch.setattr(ray_jobs, "PACKAGE_BYTES_MAX", 5)
    head = Head(RayApi(1, TOKEN), directory, directory, "session_1")
    with pytest.raises(TooLarge):
        await ray_jobs.submit(head, "job-2", ["true"], directory / "secret", {})
