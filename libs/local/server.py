"""What the local servers have in common: a port, a data directory, a child process, and the wait until it answers."""

import asyncio
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from libs.local.errors import LocalError
from libs.process import Child, Registry, free_port, port_is_free, start

HOST = "127.0.0.1"
_READY_SECONDS = 60.0
_LOG_BYTES_MAX = 16 * 1024 * 1024


class LocalServer(ABC):
    """Start, stop, kill, start again: always the same port and the same directory."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, directory: Path, port: int, registry: Registry) -> None:
        """`directory` is made if needed and belongs to this server; port 0 picks a free one, once."""
        self.directory = directory
        self.port = port or free_port(HOST)
        self.log = directory / "log"
        self._registry = registry
        self._child: Child | None = None

    @abstractmethod
    async def prepare(self) -> Sequence[str | Path]:
        """Brings the files in order and returns the command line."""

    @abstractmethod
    async def answers(self) -> bool:
        """Whether it serves by now; asked again and again while it starts."""

    def identity(self) -> Callable[[], None] | None:
        """What the child runs before it becomes the server; None keeps it as we are."""
        return None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    async def start(self) -> None:
        self.kill()  # harmless, unless it crashed and is still to be reaped
        if not port_is_free(self.port, HOST):
            raise LocalError(
                f"Port {self.port} for {self.name} is taken: stop the program that listens there, or choose another."
            )
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES_MAX:
            self.log.replace(self.log.with_name("log.old"))
        argv = await self.prepare()
        self._child = self.spawn(argv, self.log)
        await self._until_ready(self._child)

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop()
        self.kill()

    def kill(self) -> None:
        """As a crash would: SIGKILL, no goodbye."""
        if self._child is not None:
            self.discard(self._child)
            self._child = None

    def spawn(self, argv: Sequence[str | Path], log: Path) -> Child:
        """Starts a recorded child under this server's identity."""
        child = start(argv, log=log, stop_signal=self.stop_signal, cwd=self.directory, before_exec=self.identity())
        self._registry.add(child)
        return child

    def discard(self, child: Child) -> None:
        """Ends it if it still runs, reaps it and strikes it off the record."""
        child.kill()
        self._registry.remove(child)

    async def _until_ready(self, child: Child) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not await self.answers():
            if not child.running:
                raise LocalError(f"{self.name} stopped while it was starting ({last_line(self.log)}): see {self.log}.")
            if time.monotonic() > deadline:
                self.kill()
                raise LocalError(f"{self.name} did not answer within {_READY_SECONDS:.0f} s: see {self.log}.")
            await asyncio.sleep(0.01)


def last_line(log: Path) -> str:
    """The last thing a server said, for an error of one sentence."""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 2048))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"
