"""Child processes that cannot outlive their parent: each in a group of its own, recorded on disk, and ended whole."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import msgspec

# Loaded here because the child, between fork and exec, may not import or load anything.
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.01
_SPAWN_PAUSES = (0.02, 0.1, 0.5)


class Record(msgspec.Struct, frozen=True):
    """A process as it was started; pid and start time together name it for ever, a pid alone is soon recycled."""

    pid: int
    started: str
    stop_signal: int
    argv: list[str]


class InUse(Exception):
    """Another living process holds the directory."""

    def __init__(self, directory: Path, holder: str) -> None:
        super().__init__(
            f"{directory} is in use by process {holder or 'unknown'}: stop that first, or choose another directory."
        )


class Child:
    """A process that we started; `running` never reaps it, so that its group id stays ours until it is ended."""

    def __init__(self, popen: subprocess.Popen[bytes], record: Record, log: Path) -> None:
        self._popen = popen
        self.record = record
        self.log = log

    @property
    def pid(self) -> int:
        return self.record.pid

    @property
    def running(self) -> bool:
        return _runs(self.record)

    async def wait(self) -> int:
        """Waits for its own end and returns its exit status; negative is the signal that ended it."""
        await _ended(self.record, float("inf"))
        return self._popen.wait()

    async def stop(self, grace_seconds: float = 10.0) -> None:
        """Asks it to stop, waits, and kills what is left of it and of its descendants."""
        if self._popen.returncode is None:
            await _end(self.record, grace_seconds)
            self._popen.wait()

    def kill(self) -> None:
        """Kill -9 of the whole tree, at once; harmless when it is already gone."""
        if self._popen.returncode is None:
            _kill_tree(self.record)
            self._popen.wait()


def start(
    argv: Sequence[str | Path],
    *,
    log: Path,
    stop_signal: signal.Signals = signal.SIGTERM,
    death_signal: signal.Signals | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    before_exec: Callable[[], None] | None = None,
) -> Child:
    """Starts `argv` in its own process group, both outputs appended to `log`, no input.

    The kernel sends it `death_signal` (by default the stop signal) when we die, however we die. That signal is tied to
    the thread that forks, so only the main thread may start children. `before_exec` runs in the child and may change
    its identity, but must neither import nor lock anything.
    """
    words = [os.fspath(word) for word in argv]
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    prepare = dies_with_us(death_signal or stop_signal, before_exec)
    try:
        popen = _spawn(words, descriptor, cwd, env, prepare)
    finally:
        os.close(descriptor)
    started = _started(popen.pid)
    assert started is not None, "a child that nobody has reaped has an entry"
    return Child(popen, Record(popen.pid, started, int(stop_signal), words), log)


def _spawn(
    words: list[str], log: int, cwd: Path | None, env: Mapping[str, str] | None, prepare: Callable[[], None]
) -> subprocess.Popen[bytes]:
    """Tried more than once: a busy kernel refuses a namespace now and then that it grants a moment later."""

    def once() -> subprocess.Popen[bytes]:
        silent = subprocess.DEVNULL
        return subprocess.Popen(
            words, stdin=silent, stdout=log, stderr=log, cwd=cwd, env=env, process_group=0, preexec_fn=prepare
        )

    for pause in _SPAWN_PAUSES:
        with contextlib.suppress(subprocess.SubprocessError):
            return once()
        time.sleep(pause)
    return once()


def dies_with_us(
    last_word: signal.Signals = signal.SIGTERM, before_exec: Callable[[], None] | None = None
) -> Callable[[], None]:
    """What a child runs between fork and exec so that the kernel sends it `last_word` when we die, however we die."""
    assert threading.current_thread() is threading.main_thread(), "children started by a thread die with that thread"
    parent = os.getpid()

    def prepare() -> None:
        if before_exec is not None:
            before_exec()
        # Last, because a change of identity clears it.
        if sys.platform == "linux":
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(last_word), 0, 0, 0)
            if os.getppid() != parent:  # it died before the line above took hold
                os._exit(1)

    return prepare


class Registry:
    """What was started, one file each under a directory, so that the next start after a crash finds what is left."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def add(self, child: Child) -> None:
        unfinished = self._directory / f"{child.pid}.new"
        unfinished.write_bytes(msgspec.json.encode(child.record))
        unfinished.replace(self._directory / f"{child.pid}.json")

    def remove(self, child: Child) -> None:
        (self._directory / f"{child.pid}.json").unlink(missing_ok=True)

    async def end_leftovers(self, grace_seconds: float = 5.0) -> list[Record]:
        """Ends, whole, every recorded process that still lives, and returns those; call it holding the lock."""
        leftovers = []
        for path in self._directory.iterdir():
            try:
                record = msgspec.json.decode(path.read_bytes(), type=Record)
            except msgspec.MsgspecError:
                record = None  # torn by a power cut, which left no process either
            if record is not None and _runs(record):
                leftovers.append(record)
                await _end(record, grace_seconds)
            path.unlink(missing_ok=True)
        return leftovers


class DirectoryLock:
    """One holder per directory; the kernel lets go of it when the holder dies, and children do not inherit it."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode().strip()
            os.close(self._descriptor)
            raise InUse(directory, holder) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        # As servers do: connections that linger in TIME_WAIT do not count, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A free port below the range that the kernel gives to outgoing connections.

    Inside that range, a client that keeps dialling a stopped server can be given the server's own port as its source:
    it then connects to itself, and the server cannot come back.
    """
    for _ in range(1000):
        port = random.randint(10_000, 32_000)
        if port_is_free(port, host):
            return port
    raise OSError("no free port between 10000 and 32000")


def working_in(directory: Path, name: str) -> list[int]:
    """The processes of that name whose working directory it is, as far as they are ours to look at."""
    resolved = str(directory.resolve())
    processes = _psutil().process_iter(["name", "cwd"])
    return [p.pid for p in processes if p.info["name"] == name and p.info["cwd"] == resolved]


def _psutil() -> ModuleType:
    import psutil  # type: ignore[import-untyped]  # here, not above: importing this module must stay cheap

    module: ModuleType = psutil
    return module


def _started(pid: int) -> str | None:
    """When a process started, in a form that no other process of that pid will ever have; None when there is none."""
    if sys.platform != "linux":
        psutil = _psutil()
        return str(psutil.Process(pid).create_time()) if psutil.pid_exists(pid) else None
    # Ticks since boot and the boot's id: unlike psutil's wall-clock time, these stay put when the clock is set.
    try:
        ticks = _stat(pid)[19]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{ticks}"


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; the name before it may hold spaces and brackets."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def _exists(record: Record) -> bool:
    return _started(record.pid) == record.started


def _runs(record: Record) -> bool:
    """Whether it exists and is not a zombie."""
    if not _exists(record):
        return False
    try:
        if sys.platform == "linux":
            return _stat(record.pid)[0] not in "ZX"
        psutil = _psutil()
        return bool(psutil.Process(record.pid).status() != psutil.STATUS_ZOMBIE)
    except (OSError, _psutil().NoSuchProcess):
        return False


async def _end(record: Record, grace_seconds: float) -> None:
    """Stop signal to the leader alone, which knows how to stop its own, and SIGKILL to the tree after the grace."""
    if _runs(record):
        os.kill(record.pid, record.stop_signal)
    await _ended(record, grace_seconds)
    _kill_tree(record)


async def _ended(record: Record, within_seconds: float) -> None:
    # Polled, because the events the system offers would either reap the process or exist on Linux only.
    deadline = time.monotonic() + within_seconds
    while _runs(record) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_SECONDS)


def _kill_tree(record: Record) -> None:
    """SIGKILL to the leader's group and to descendants that made groups of their own, as PostgreSQL's backends do."""
    if not _exists(record):
        return
    psutil = _psutil()
    try:
        descendants = psutil.Process(record.pid).children(recursive=True)
        os.killpg(record.pid, signal.SIGKILL)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return
    for descendant in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):  # gone; psutil itself refuses a recycled pid
            descendant.kill()
