"""What stands where Ray would in a drill: it starts after a moment, runs jobs that hash their files, ends when told.

Everything else of the agent is the real one: leases, fences, spool, jobs, buckets, reconnects.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from services.node_agent import probe_worker
from services.node_agent.ray_cluster import RayNodeFailed, RayPlan
from services.node_agent.ray_jobs import JobState, RayRefused
from wire.message import decode, encode
from wire.probe import Probe

QUESTION, ANSWER = "question.txt", "answer.txt"
_STARTS_WITHIN, _RUNS_WITHIN = (0.05, 0.4), (0.1, 1.2)
_FAILS_TO_START, _ENDS_BY_ITSELF = 0.03, 0.02
_CHANCE = random.Random()


def answer_to(question: bytes) -> bytes:
    """What a job writes into its result; its customer can compute it too."""
    return hashlib.sha256(question).hexdigest().encode()


class LightRayNode:
    """The face of `ray_cluster.RayNode`, without Ray."""

    def __init__(self, plan: RayPlan) -> None:
        self.exited: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.head = self
        self._ending: asyncio.TimerHandle | None = None
        plan.directory.mkdir(mode=0o700, parents=True)

    @classmethod
    async def start(cls, plan: RayPlan) -> LightRayNode:
        return cls(plan)

    async def wait_ready(self, nodes: int = 1, seconds: float = 60.0) -> int:
        moment = _CHANCE.uniform(*_STARTS_WITHIN)
        await asyncio.sleep(moment)
        if _CHANCE.random() < _FAILS_TO_START:
            raise RayNodeFailed("This one was to fail.")
        if _CHANCE.random() < _ENDS_BY_ITSELF:
            self._ending = asyncio.get_running_loop().call_later(_CHANCE.uniform(0.1, 3.0), self._end, "It broke.")
        return round(moment * 1000)

    async def stop(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._end("Stopped.")

    def _end(self, why: str) -> None:
        if not self.exited.done():
            self.exited.set_result(why)


class LightJob:
    """The face of `ray_jobs.RayJob`: three lines, and a result that follows from the files."""

    def __init__(self, head: LightRayNode, question: bytes) -> None:
        self._head, self._question, self._stopped = head, question, False

    async def stop(self) -> None:
        self._stopped = True

    async def lines(self) -> AsyncIterator[list[str]]:
        for number in range(3):
            await asyncio.sleep(_CHANCE.uniform(*_RUNS_WITHIN) / 3)
            if self._head.exited.done():
                raise RayRefused(503, "The head is gone.")
            yield [f"line {number}"]

    async def state(self) -> JobState:
        return JobState("STOPPED" if self._stopped else "SUCCEEDED")

    def save_log(self, target: Path) -> None:
        target.write_text("line 0\nline 1\nline 2\n")

    def save_results(self, target: Path) -> int:
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr(ANSWER, answer_to(self._question))
        return 1


async def submit(
    head: LightRayNode, name: str, entrypoint: Sequence[str], package: Path | None, environment: Mapping[str, str]
) -> LightJob:
    """As `ray_jobs.submit`."""
    assert package is not None
    with zipfile.ZipFile(package) as archive:
        return LightJob(head, archive.read(QUESTION))


class LightProbes:
    """Test jobs answered for real, in a thread instead of a child process for each node."""

    async def answer(self, subject: str, body: bytes) -> bytes:
        query = decode(Probe, subject, body)
        return encode(await asyncio.to_thread(probe_worker.answer, query))

    def stop(self) -> None:
        pass
