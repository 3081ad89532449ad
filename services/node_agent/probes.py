"""Answers test jobs in a child process, so that the agent stays small and a probe cannot stall its heartbeats."""

import asyncio
import contextlib
import sys

from wire.message import decode, encode
from wire.probe import Probe, ProbeAnswer

_IDLE_SECONDS = 15.0
_ANSWER_SECONDS = 60.0
_LINE_BYTES_MAX = 2 * 1024 * 1024


class ProbeWorker:
    """Starts the child with the first question and ends it when none came for a while."""

    def __init__(self) -> None:
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None

    async def answer(self, subject: str, body: bytes) -> bytes:
        """The answer to one question; raises Malformed for what is none."""
        query = decode(Probe, subject, body)
        async with self._turn:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    return await self._ask(query)
            except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError) as error:
                self.stop()
                return encode(ProbeAnswer(probe_id=query.probe_id, kind=query.kind, declined=f"{error!r}"[:200]))

    async def _ask(self, query: Probe) -> bytes:
        child = await self._running()
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(encode(query) + b"\n")
        await child.stdin.drain()
        line = await child.stdout.readuntil(b"\n")
        self._idle = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self.stop)
        return line.rstrip(b"\n")

    async def _running(self) -> asyncio.subprocess.Process:
        if self._idle is not None:
            self._idle.cancel()
        if self._child is None or self._child.returncode is not None:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.node_agent.probe_worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES_MAX,
            )
        return self._child

    def stop(self) -> None:
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()
        self._child = None
