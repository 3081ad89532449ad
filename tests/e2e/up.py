"""`python -m services up` as a process of its own: what it says, what it started, and what it left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
_READY_SECONDS, _STOP_SECONDS = 120.0, 60.0


class Up:
    """Started at once; `ready` waits until the network says that it is."""

    def __init__(
        self, data: Path, *flags: str, settings: Mapping[str, str] | None = None, wrapper: Sequence[str] = ()
    ) -> None:
        self.data = data
        self._said = data.parent / f"{data.name}.said"
        words = [*wrapper, sys.executable, "-m", "services", "up", "--data", str(data), *flags]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BIVOUAC_")}
        with self._said.open("wb") as output:
            self.process = subprocess.Popen(
                words,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**inherited, **(settings or {})},
                process_group=0,
            )

    def said(self) -> list[str]:
        """Every line so far, of both outputs."""
        return self._said.read_text().splitlines()

    def until(self, word: str, seconds: float = _READY_SECONDS) -> None:
        """Waits for a line with that word in it."""
        until(lambda: any(word in line for line in self.said()), f"no word of {word!r}", seconds, self._still_running)

    def ready(self) -> Up:
        self.until("ready: ")
        return self

    def state(self) -> dict[str, Any]:
        """What network.json says."""
        found: dict[str, Any] = json.loads((self.data / "network.json").read_text())
        return found

    def ended(self, seconds: float = _STOP_SECONDS) -> int:
        """Its exit status, once it has one."""
        return self.process.wait(seconds)

    def stop(self, word: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(word)
        return self.ended()

    def end(self) -> None:
        """Whatever a test did: nothing of it is left."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        self.process.kill()
        self.process.wait()
        for pid in left_behind(self.data):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _still_running(self) -> None:
        assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.said()}"


def until(
    true: Callable[[], bool], otherwise: str, seconds: float = 30.0, meanwhile: Callable[[], None] | None = None
) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if meanwhile is not None:
            meanwhile()
        assert time.monotonic() < deadline, f"{otherwise} within {seconds:.0f} s"
        time.sleep(0.05)


def left_behind(data: Path) -> dict[int, str]:
    """Every living process whose command, environment or working directory names the network's directory."""
    sign = os.fsencode(data)
    return {
        pid: command.replace(b"\0", b" ").decode(errors="replace")
        for pid, command, environment, place in processes()
        if pid != os.getpid() and (sign in command or sign in environment or sign in place)
    }


def processes() -> Iterator[tuple[int, bytes, bytes, bytes]]:
    """Process id, command line, environment and working directory of all that live and may be looked at."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state = (entry / "stat").read_bytes().rpartition(b")")[2].split()[0]
                if state not in (b"Z", b"X"):
                    place = os.fsencode((entry / "cwd").readlink())
                    yield int(entry.name), (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes(), place
