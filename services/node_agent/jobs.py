"""Runs a customer's jobs on the head's Ray cluster: files in, log lines out, results back, all by digest."""

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from libs.objects import NotStored, fetch, store
from services.node_agent import ray_jobs
from services.node_agent.leases import Lease, Leases
from services.node_agent.ray_jobs import RayJob, RayRefused, TooLarge
from wire.job import Artefact, JobExited, NodeJobLog, RunJob, StopJob
from wire.message import Event, Telemetry
from wire.names import bucket_of_node

_PAUSE_SECONDS = 1.0
_TELEMETRY_BYTES_MAX = 64 * 1024
_TELEMETRY_LINES_MAX = 256

log = logging.getLogger("agent")


class Jobs:
    """What runs and how it went. A job whose lease is gone is not reported: the network has ended it already."""

    def __init__(
        self,
        node_id: str,
        leases: Leases,
        say: Callable[[Event], None],
        tell: Callable[[Telemetry], None],
        jetstream: Callable[[], Awaitable[JetStreamContext]],
    ) -> None:
        self._node_id, self._leases, self._say, self._tell, self._jetstream = node_id, leases, say, tell, jetstream
        self._running: dict[str, asyncio.Task[None]] = {}
        self._ray_jobs: dict[str, RayJob] = {}

    async def run(self, order: RunJob) -> None:
        """Begin a job; how it went is told by an event."""
        task = asyncio.create_task(self._carry_out(order))
        self._running[order.job_id] = task
        task.add_done_callback(lambda done: self._forget(order.job_id, done))

    async def stop(self, order: StopJob) -> None:
        job = self._ray_jobs.get(order.job_id)
        if job is not None:
            await job.stop()

    def _forget(self, job_id: str, task: asyncio.Task[None]) -> None:
        if self._running.get(job_id) is task:
            del self._running[job_id]
        self._ray_jobs.pop(job_id, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("job %s ended in a fault of the agent", job_id, exc_info=task.exception())

    async def _carry_out(self, order: RunJob) -> None:
        lease = self._leases.of(order.lease_id)
        if lease is None:
            return
        with tempfile.TemporaryDirectory(prefix="bivouac-job-") as folder:
            try:
                exited = await self._attempt(order, lease, Path(folder))
            except (NotStored, TooLarge, RayRefused, OSError, TimeoutError) as error:
                exited = self._exited(order, "failed", str(error) or type(error).__name__)
            if self._leases.of(order.lease_id) is lease:
                self._say(exited)

    async def _attempt(self, order: RunJob, lease: Lease, folder: Path) -> JobExited:
        await lease.ready.wait()
        assert lease.ray is not None
        package = folder / "files.zip"
        jetstream = await self._jetstream()
        await fetch(jetstream, bucket_of_node(self._node_id), order.files.digest, order.files.size, package)
        name = f"{order.job_id}-{order.attempt}"
        job = await ray_jobs.submit(lease.ray.head, name, order.entrypoint, package, order.environment)
        self._ray_jobs[order.job_id] = job
        await self._relay_log(order, job)
        state = await job.state()
        await asyncio.to_thread(job.save_log, folder / "log.txt")
        count = await asyncio.to_thread(job.save_results, folder / "result.zip")
        status = {"SUCCEEDED": "succeeded", "STOPPED": "stopped"}.get(state.status, "failed")
        result = await self._stored(folder / "result.zip") if count else None
        detail = "" if status == "succeeded" else (state.message or "").replace("\0", "").strip()[-1000:]
        return self._exited(order, status, detail, result, await self._stored(folder / "log.txt"))

    async def _relay_log(self, order: RunJob, job: RayJob) -> None:
        sequence = 0
        async for lines in job.lines():
            for some in batches(lines):
                self._tell(
                    NodeJobLog(
                        node_id=self._node_id,
                        booking_id=order.booking_id,
                        job_id=order.job_id,
                        sequence=sequence,
                        lines=some,
                    )
                )
                sequence += 1

    async def _stored(self, path: Path) -> Artefact:
        """Put a file into this node's bucket; while the bus is away the file waits here."""
        while True:
            try:
                digest, size = await store(await self._jetstream(), bucket_of_node(self._node_id), path)
                return Artefact(digest=digest, size=size)
            except (NatsError, TimeoutError, OSError) as error:
                log.warning("a result waits for the bus: %r", error)
                await asyncio.sleep(_PAUSE_SECONDS)

    def _exited(
        self, order: RunJob, status: str, detail: str, result: Artefact | None = None, log: Artefact | None = None
    ) -> JobExited:
        assert status in ("succeeded", "failed", "stopped")
        return JobExited(
            id=f"{order.id}/exited",
            node_id=self._node_id,
            partner=order.partner,
            booking_id=order.booking_id,
            job_id=order.job_id,
            attempt=order.attempt,
            status=status,  # type: ignore[arg-type]  # asserted above
            detail=detail[:1900],
            result=result,
            log=log,
        )


def batches(lines: list[str]) -> Iterator[tuple[str, ...]]:
    """The lines in groups that fit into one message each."""
    group: list[str] = []
    size = 0
    for line in lines:
        length = len(line.encode())
        if group and (len(group) == _TELEMETRY_LINES_MAX or size + length > _TELEMETRY_BYTES_MAX):
            yield tuple(group)
            group, size = [], 0
        group.append(line)
        size += length
    if group:
        yield tuple(group)
