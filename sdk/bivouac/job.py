"""One job on a booked cluster: its state, its lines as they are printed, and its result as files."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bivouac import artefacts, files
from bivouac.connection import stamped
from bivouac.errors import BivouacError, JobFailed, Refused, TookTooLong
from bivouac.story import Story
from bivouac.view import JobView, job_after, job_as_told
from wire.job import Artefact, CancelJob, JobLog, JobStatus, SubmitJob
from wire.message import Message
from wire.names import bucket_of_partner

if TYPE_CHECKING:
    from bivouac.booking import Booking

_BATCHES_KEPT = 20_000
_SAY_AGAIN_SECONDS = 6.0
_LAST_LINES_SECONDS = 0.5  # lines travel on another path than the event that ends the job


class Job:
    """Made by `Booking.run` and `Booking.job`; `view` is what is known now."""

    def __init__(self, booking: "Booking", job_id: str) -> None:
        self.booking, self.job_id = booking, job_id
        self.view = JobView(job_id=job_id)
        self._lines: Story[JobLog] = Story(_BATCHES_KEPT)
        self.missed_lines = False
        self._next_sequence = 0

    async def submit(self, command: SubmitJob, timeout: float = 60.0) -> None:
        """Waits until the network took the job; raises Refused where it did not.

        A refusal may be lost on its way, so an order that is not answered is said again; a job id is one job.
        """
        deadline = time.monotonic() + timeout
        while self.view.state == "submitted" and time.monotonic() < deadline:
            await self.booking.send(stamped(command), self)
            said_until = min(deadline, time.monotonic() + _SAY_AGAIN_SECONDS)
            while self.view.state == "submitted" and time.monotonic() < said_until:
                await self._news()
        await self._until(lambda: self.view.state != "submitted", 0.0, "taken")

    async def finished(self, timeout: float | None = None) -> JobView:
        """Waits for the end of the job; raises Refused when it was never taken."""
        await self._until(lambda: self.view.over, timeout, "finished")
        return self.view

    async def logs(self) -> AsyncIterator[str]:
        """The lines live and in order, from the first that was heard; ends with the job.

        Live lines may be lost on the way: then `missed_lines` is set, and `whole_log` has them all once the job is
        over. A job that was over before anything was heard is read from there at once.
        """
        position = 0
        while True:
            batches, position = self._lines.since(position)
            for batch in batches:
                for line in batch.lines:
                    yield line
            if self.view.over and not batches:
                if await self._lines.grows(_LAST_LINES_SECONDS):
                    continue
                break
            if not batches:
                await self._news()
        if position == 0 and self.view.log is not None:
            self.missed_lines = False
            for line in await self.whole_log():
                yield line

    async def whole_log(self) -> list[str]:
        """Every line of a job that is over, from the stored log."""
        if self.view.log is None:
            raise BivouacError(f"Job {self.job_id} has no stored log: it is kept when the job is over.")
        with tempfile.TemporaryDirectory(prefix="bivouac-") as place:
            path = Path(place, "log")
            await self._fetch(self.view.log, path, artefacts.silent)
            return path.read_text("utf-8", "replace").splitlines()

    async def result(
        self, to: str | Path, *, timeout: float | None = None, progress: artefacts.Progress = artefacts.silent
    ) -> list[Path]:
        """Waits for the end, checks the result against its digest and unzips it into `to` (absent or empty).

        Returns the files, relative to `to`. Raises JobFailed when the job did not succeed, after unzipping what it
        left, and Damaged when the result is not what the network announced.
        """
        view = await self.finished(timeout)
        found: list[Path] = []
        if view.result is not None:
            with tempfile.TemporaryDirectory(prefix="bivouac-") as place:
                archive = Path(place, "result.zip")
                await self._fetch(view.result, archive, progress)
                found = await asyncio.to_thread(files.unpack, archive, Path(to))
        if view.state != "succeeded":
            why = view.detail.splitlines()[0] if view.detail else "it gave no reason, see its log"
            raise JobFailed(f"Job {self.job_id} {view.state}: {why}")
        if view.result is None:
            raise BivouacError(f"Job {self.job_id} left no result: a job writes files into $BIVOUAC_RESULT.")
        return found

    async def cancel(self) -> JobView:
        """Stops the job, and waits until it is over."""
        command = stamped(
            CancelJob(partner=self.booking.partner, booking_id=self.booking.booking_id, job_id=self.job_id)
        )
        await self.booking.send(command)
        return await self.finished(60.0)

    def heard(self, message: Message) -> None:
        if isinstance(message, JobLog):
            self._note(message)
            self._lines.add(message)
        else:
            self.view = job_after(self.view, message)
            self._lines.wake()

    def told(self, status: JobStatus) -> None:
        self.view = job_as_told(self.view, status)
        self._lines.wake()

    def refused(self, refused: Refused) -> None:
        self.told(JobStatus(job_id=self.job_id, state="refused", refusal=refused.refusal))

    def _note(self, batch: JobLog) -> None:
        """Batches are numbered from 0 on, anew at every attempt."""
        if batch.sequence > self._next_sequence:
            self.missed_lines = True
        self._next_sequence = batch.sequence + 1

    async def _fetch(self, artefact: Artefact, into: Path, progress: artefacts.Progress) -> None:
        connection = self.booking.connection
        await artefacts.download(connection, bucket_of_partner(self.booking.partner), artefact, into, progress)

    async def _until(self, done: Callable[[], bool], timeout: float | None, word: str) -> None:
        deadline = time.monotonic() + timeout if timeout is not None else None
        while not done():
            if deadline is not None and time.monotonic() >= deadline:
                raise TookTooLong(f"Job {self.job_id} is not {word} yet: it is {self.view.state}.")
            await self._news()
        if self.view.refusal is not None and self.view.state == "refused":
            raise Refused(self.view.refusal)

    async def _news(self) -> None:
        """Returns at the next news; where none came for a while, the scheduler is asked.

        The end of a booking ends its jobs, and each is told before the bill: a job of which then nothing was heard
        will not be heard of any more.
        """
        if not await self._lines.grows(self.booking.poll_seconds) and not self.view.over:
            if self.booking.view.over:
                raise BivouacError(
                    f"Booking {self.booking.booking_id} is over, and of job {self.job_id} no end is known."
                )
            self.booking.ask_soon()
