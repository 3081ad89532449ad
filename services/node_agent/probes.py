"""Answers test jobs in child processes, so that the agent stays small and a probe cannot stall its heartbeats."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence

from services.node_agent.gpu import Gpu
from wire.message import Reply, decode, encode
from wire.probe import Probe, ProbeAnswer, ProveGpu, ProveGpuAnswer

_IDLE_SECONDS = 15.0
_ANSWER_SECONDS = 60.0
_LINE_BYTES_MAX = 2 * 1024 * 1024


class ProbeWorker:
    """A child for the small questions, and one for each card, so that all cards of a host prove at once."""

    def __init__(self, cards: Sequence[Gpu] = ()) -> None:
        self._questions = _Child()
        self._cards = [_Child(card.uuid) for card in cards] or [_Child("")]

    async def answer(self, subject: str, body: bytes) -> bytes:
        """The answer to one question; raises Malformed for what is none."""
        return await self._questions.answer(decode(Probe, subject, body))

    async def prove(self, subject: str, body: bytes) -> bytes:
        """The answer to one stage of a proof of GPU; raises Malformed for what is none."""
        query = decode(ProveGpu, subject, body)
        if query.question.card >= len(self._cards):
            return encode(declined(query, f"This node has no card {query.question.card}."))
        return await self._cards[query.question.card].answer(query)

    def stop(self) -> None:
        for child in (self._questions, *self._cards):
            child.stop()


class _Child:
    """Started with the first question and ended when none came for a while; it sees the one card it is given."""

    def __init__(self, card: str | None = None) -> None:
        self._environment = dict(os.environ) if card is None else {**os.environ, "CUDA_VISIBLE_DEVICES": card}
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None

    async def answer(self, query: Probe | ProveGpu) -> bytes:
        async with self._turn:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    return await self._ask(query)
            except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError) as error:
                self.stop()
                return encode(declined(query, repr(error)))

    async def _ask(self, query: Probe | ProveGpu) -> bytes:
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
                env=self._environment,
            )
        return self._child

    def stop(self) -> None:
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()
        self._child = None


def declined(query: Probe | ProveGpu, why: str) -> Reply:
    if isinstance(query, ProveGpu):
        return ProveGpuAnswer(probe_id=query.probe_id, stage=query.stage, declined=why[:200])
    return ProbeAnswer(probe_id=query.probe_id, kind=query.kind, declined=why[:200])
