"""Runs jobs through the HTTP API of a head, and takes logs and results from its directory as hostile files.

What the directory holds is written by the customer's processes while we read it: links are never followed, only
regular files are opened, every size is bounded, and nothing is ever unpickled.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import shlex
import stat
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, BinaryIO, Literal

import msgspec

PACKAGE_BYTES_MAX = 100 * 1024**2 - 1
"""Ray's API refuses bodies of 100 MiB and more."""
LINE_CHARACTERS_MAX = 4096
LOG_BYTES_MAX = 64 << 20
RESULT_BYTES_MAX = 128 << 20
RESULT_FILES_MAX = 10_000
RESULT_VARIABLE = "BIVOUAC_RESULT"
RESULTS = "result"

_ANSWER_BYTES_MAX = 16 << 20
_ANSWER_SECONDS = 60.0
_SLICE = 1 << 18
_DEPTH_MAX = 32


class RayRefused(Exception):
    """The head answered, but not with what was asked for; `status` is its HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"Ray answered {status}: {detail[:1000]}")
        self.status = status


class TooLarge(Exception):
    """A file exceeds what is taken; one sentence says which limit."""


class RayApi:
    """The HTTP API of a Ray head on loopback. `ask` raises OSError or TimeoutError while the head is not there."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token

    async def ask(
        self, method: str, path: str, body: bytes = b"", file: BinaryIO | None = None, size: int = 0
    ) -> bytes:
        """One request, of `body`, or of the `size` bytes of `file`, which are sent in slices."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                # HTTP/1.0: the answer then comes whole, up to the end of the connection, and never in chunks.
                writer.write(
                    f"{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._token}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {size or len(body)}\r\n\r\n".encode()
                    + body
                )
                while file is not None and (part := await asyncio.to_thread(file.read, _SLICE)):
                    writer.write(part)
                    await writer.drain()
                return _answer(await _read_all(reader))
            finally:
                writer.close()


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    said = bytearray()
    while part := await reader.read(_SLICE):
        said += part
        if len(said) > _ANSWER_BYTES_MAX:
            raise TooLarge(f"The head's answer is longer than {_ANSWER_BYTES_MAX} bytes.")
    return bytes(said)


def _answer(said: bytes) -> bytes:
    head, _, body = said.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        raise ConnectionResetError("the head closed the connection")
    if (status := int(words[1])) != 200:
        raise RayRefused(status, body.decode(errors="replace"))
    return body


class Head(msgspec.Struct, frozen=True):
    """A running head: its API, its directory on this machine and as seen inside, and Ray's name for the session."""

    api: RayApi
    directory: Path
    inside: Path
    session: str


class JobState(msgspec.Struct, frozen=True):
    """How Ray says a job stands."""

    status: Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]
    message: str | None = None
    driver_exit_code: int | None = None

    @property
    def over(self) -> bool:
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")


async def submit(
    head: Head, name: str, entrypoint: Sequence[str], package: Path | None, environment: Mapping[str, str]
) -> "RayJob":
    """Run `entrypoint` in the unpacked zip `package`, which Ray takes to every node that works for the job.

    `name` is new for each attempt. The job leaves its result files in the directory that BIVOUAC_RESULT names, on the
    head. Raises TooLarge, RayRefused, and OSError or TimeoutError where the head is gone.
    """
    with _beneath(head.directory, RESULTS) as results:
        os.mkdir(name, 0o700, dir_fd=results)
    told = {**environment, RESULT_VARIABLE: str(head.inside / RESULTS / name)}
    runtime: dict[str, object] = {"env_vars": told}
    if package is not None:
        runtime["working_dir"] = await _upload(head.api, package)
    order = {"submission_id": name, "entrypoint": shlex.join(entrypoint), "runtime_env": runtime}
    await head.api.ask("POST", "/api/jobs/", msgspec.json.encode(order))
    return RayJob(head, name)


async def _upload(api: RayApi, package: Path) -> str:
    """Give the zip to the cluster. Always: Ray forgets a package with the last job that used it."""
    with package.open("rb") as file:
        if (size := os.fstat(file.fileno()).st_size) > PACKAGE_BYTES_MAX:
            raise TooLarge(f"The job's files take {size} bytes; Ray takes {PACKAGE_BYTES_MAX}.")
        digest = await asyncio.to_thread(hashlib.file_digest, file, "sha256")
        file.seek(0)
        name = f"_ray_pkg_{digest.hexdigest()[:40]}.zip"
        await api.ask("PUT", f"/api/packages/gcs/{name}", file=file, size=size)
    return f"gcs://{name}"


class RayJob:
    """A job on a head."""

    def __init__(self, head: Head, name: str) -> None:
        self._head, self._name = head, name
        self._log_path = (head.session, "logs", f"job-driver-{name}.log")

    async def state(self) -> JobState:
        return msgspec.json.decode(await self._head.api.ask("GET", f"/api/jobs/{self._name}"), type=JobState)

    async def stop(self) -> None:
        """SIGTERM to the job, SIGKILL three seconds later; its end shows in `state`. Harmless when it is over."""
        await self._head.api.ask("POST", f"/api/jobs/{self._name}/stop")

    async def lines(self) -> AsyncIterator[list[str]]:
        """What the job prints, some lines at a time, until it is over; at most LOG_BYTES_MAX of it.

        The file is followed where it lies: Ray's own API sends it whole at each request, or a second late.
        Raises OSError, TimeoutError or RayRefused when the head is lost.
        """
        log = _LogFile(self._head.directory, self._log_path)
        try:
            loop = asyncio.get_running_loop()
            began, over = loop.time(), False
            while True:
                if new := log.read():
                    yield new
                elif over:
                    break
                # What was printed before the end is read after the end is known: hence one more turn.
                elif not (over := (await self.state()).over):
                    await asyncio.sleep(0.1 if loop.time() - began < 20 else 0.5)
            if rest := log.rest():
                yield [rest]
        finally:
            log.close()

    def save_log(self, target: Path) -> None:
        """The log as it stands, as far as LOG_BYTES_MAX; an empty file where the job never had one. Blocks."""
        with target.open("wb") as sink, contextlib.suppress(FileNotFoundError):
            *directories, name = self._log_path
            with _beneath(self._head.directory, *directories) as directory, _regular(name, directory) as source:
                _copy(source, sink, LOG_BYTES_MAX)

    def save_results(self, target: Path) -> int:
        """Zip the job's result files to `target`; the number of them. Blocks. Raises TooLarge past RESULT_BYTES_MAX."""
        count, left = 0, RESULT_BYTES_MAX
        with (
            zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            contextlib.suppress(FileNotFoundError),
            _beneath(self._head.directory, RESULTS, self._name) as root,
        ):
            for name, source in _files(root):
                with archive.open(name, "w", force_zip64=True) as sink:
                    left -= _copy(source, sink, left)
                if source.read(1):
                    raise TooLarge(f"The result is larger than {RESULT_BYTES_MAX} bytes.")
                count += 1
        return count


class _LogFile:
    """The lines of a growing file, each cut to LINE_CHARACTERS_MAX, the whole to LOG_BYTES_MAX."""

    def __init__(self, directory: Path, path: tuple[str, ...]) -> None:
        self._directory, self._path = directory, path
        self._source: BinaryIO | None = None
        self._partial = b""
        self._left = LOG_BYTES_MAX

    def read(self) -> list[str]:
        if self._source is None:
            with contextlib.suppress(FileNotFoundError), _beneath(self._directory, *self._path[:-1]) as directory:
                self._source = _regular(self._path[-1], directory)
        if self._source is None or self._left <= 0:
            return []
        new = self._source.read(min(_SLICE, self._left)) or b""
        self._left -= len(new)
        *whole, self._partial = (self._partial + new).split(b"\n")
        if len(self._partial) > LINE_CHARACTERS_MAX:
            whole.append(self._partial)
            self._partial = b""
        if self._left <= 0:
            whole.append(f"[the log is longer than {LOG_BYTES_MAX} bytes; the rest is not shown]".encode())
        return [_line(line) for line in whole]

    def rest(self) -> str:
        return _line(self._partial)

    def close(self) -> None:
        if self._source is not None:
            self._source.close()


def _line(raw: bytes) -> str:
    return raw.decode(errors="replace").rstrip("\r")[:LINE_CHARACTERS_MAX]


def _open(name: str, flags: int, directory: int) -> int:
    try:
        return os.open(name, flags | os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise FileNotFoundError(name) from error  # a link, or a socket: not what was looked for
        raise


@contextlib.contextmanager
def _beneath(root: Path, *names: str) -> Iterator[int]:
    """A descriptor of root/names…, opened step by step so that no link on the way is followed."""
    assert not {"", ".", ".."} & set(names) and "/" not in "".join(names), names
    opened = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    try:
        for name in names:
            opened.append(_open(name, os.O_DIRECTORY, opened[-1]))
        yield opened[-1]
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _regular(name: str, directory: int) -> BinaryIO:
    """A regular file of the directory, opened for reading; FileNotFoundError for anything else."""
    # Non-blocking, because opening a pipe would otherwise wait for a writer.
    descriptor = _open(name, os.O_NONBLOCK, directory)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb", buffering=0)
    os.close(descriptor)
    raise FileNotFoundError(name)


def _files(root: int) -> Iterator[tuple[str, BinaryIO]]:
    """Every regular file below a directory, with its path from there; TooLarge past RESULT_FILES_MAX of anything."""
    seen = 0
    for directory, below, names, descriptor in os.fwalk(".", dir_fd=root, follow_symlinks=False):
        below.sort()
        if (seen := seen + len(below) + len(names)) > RESULT_FILES_MAX or directory.count("/") > _DEPTH_MAX:
            raise TooLarge(f"The result has more than {RESULT_FILES_MAX} files, or lies deeper than {_DEPTH_MAX}.")
        for name in sorted(names):
            with contextlib.suppress(OSError), _regular(name, descriptor) as source:
                path = os.path.relpath(os.path.join(directory, name))
                yield path.encode(errors="replace").decode(), source


def _copy(source: BinaryIO, sink: IO[bytes], most: int) -> int:
    copied = 0
    while copied < most and (part := source.read(min(_SLICE, most - copied))):
        sink.write(part)
        copied += len(part)
    return copied
