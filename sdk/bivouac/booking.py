"""One booking from order to receipt: what was heard of it, its jobs, and its release."""

import asyncio
import contextlib
import hashlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from bivouac import artefacts, files
from bivouac.connection import Connection, Listening, new_id, stamped
from bivouac.errors import BivouacError, Refused, TookTooLong
from bivouac.job import Job
from bivouac.story import Story
from bivouac.view import BookingView, booking_after, booking_as_told
from wire.access import MessageRefused
from wire.booking import BookingEvent, BookingPlaced, BookingStatus, GetBooking, PlaceBooking, ReleaseBooking
from wire.job import Artefact, JobAccepted, JobEvent, JobLog, SubmitJob
from wire.ledger import GetReceipt, Receipt
from wire.message import Command, Message
from wire.names import bucket_of_partner
from wire.values import Reason, Refusal

C = TypeVar("C", bound=Command)
_EVENTS_KEPT = 10_000
_IDS_KEPT = 50_000


def order_digest(order: PlaceBooking) -> str:
    """As in BookingStatus: SHA-256 of the order as JSON, keys sorted, no spaces, `id`, `at` and `type` left out."""
    content = msgspec.to_builtins(order)
    for transport in ("id", "at", "type"):
        content.pop(transport, None)
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


class Booking:
    """Made by `Client.book` and `Client.booking`; `view` is what is known now, `jobs` the jobs by id."""

    def __init__(
        self, connection: Connection, booking_id: str, *, order: PlaceBooking | None = None, poll_seconds: float = 2.0
    ) -> None:
        self.connection, self.booking_id, self.poll_seconds = connection, booking_id, poll_seconds
        self._order = order
        self.partner = connection.identity
        self.view = BookingView(booking_id=booking_id)
        self.jobs: dict[str, Job] = {}
        self._story: Story[BookingEvent | JobEvent] = Story(_EVENTS_KEPT)
        self._heard_ids: set[str] = set()
        self._own_ids: dict[str, Job | None] = {}
        self._send_refusals: dict[str, Refused] = {}
        self._listening: Listening | None = None
        self._asking: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        """Opens the subscriptions; called before the first command, so that no answer can be missed."""
        ids = {"partner": self.partner, "booking_id": self.booking_id}
        patterns = (
            BookingPlaced.family(**ids),
            JobAccepted.family(**ids),
            JobLog.pattern(**ids),
            MessageRefused.pattern(identity=self.partner),
        )
        self._listening = await self.connection.listen(patterns, self._hear)

    async def close(self) -> None:
        """Stops listening; the booking goes on."""
        if self._asking is not None:
            self._asking.cancel()
        if self._listening is not None:
            await self._listening.close()
            self._listening = None

    async def status(self) -> BookingStatus:
        """How the booking stands, asked now."""
        status = await self.connection.ask(GetBooking(partner=self.partner, booking_id=self.booking_id), BookingStatus)
        if self._order is not None and status.order_digest not in ("", order_digest(self._order)):
            reused = f"Booking {self.booking_id} is another order: an id names one order once and for ever."
            self._send_refusals[self._order.id] = Refused(Refusal(reason=Reason.id_reused, detail=reused))
        self.view = booking_as_told(self.view, status)
        for told in status.jobs:
            self.job(told.job_id).told(told)
        self._story.wake()
        return status

    def ask_soon(self) -> None:
        """The safety net under live events: asks beside them, so that an unanswered question delays nothing."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_quietly())

    async def _ask_quietly(self) -> None:
        """An order that the network does not know was refused unheard, or waits still: said again, it is answered."""
        try:
            await self.status()
        except Refused as refused:
            if self._order is None or refused.reason is not Reason.unknown_booking:
                return
            with contextlib.suppress(BivouacError):
                await self.send(stamped(msgspec.structs.replace(self._order, id="", at=0)))
        except BivouacError:
            return

    async def ready(self, timeout: float = 900.0) -> BookingView:
        """Waits until the cluster is ready, from when on it is billed; raises Refused when it never will be."""
        await self._until(lambda: bool(self.view.ready_at) or self.view.gone, timeout, "ready")
        if self.view.gone:
            ended = Refusal(reason=Reason.already_ended, detail=f"Booking {self.booking_id} is over.")
            raise Refused(self.view.refusal or ended)
        return self.view

    async def events(self) -> AsyncIterator[BookingEvent | JobEvent]:
        """What happens to this booking and its jobs, from the first that was heard; ends when it is settled."""
        position = 0
        while True:
            fresh, position = self._story.since(position)
            for message in fresh:
                yield message
            if not fresh:
                if self.view.over:
                    return
                await self._news()

    def heard(self) -> list[BookingEvent | JobEvent]:
        """The events heard so far."""
        return self._story.since(0)[0]

    async def run(
        self,
        entrypoint: Sequence[str],
        *,
        files: str | Path,
        environment: Mapping[str, str] | None = None,
        job_id: str | None = None,
        progress: artefacts.Progress = artefacts.silent,
    ) -> Job:
        """Uploads the directory `files`, submits `entrypoint` and waits until it is accepted or refused.

        The job runs in the unpacked directory; what it writes into `$BIVOUAC_RESULT` comes back as its result.
        """
        artefact = await self._upload(Path(files), progress)
        job = self.job(job_id or new_id("job"))
        command = SubmitJob(
            partner=self.partner,
            booking_id=self.booking_id,
            job_id=job.job_id,
            entrypoint=tuple(entrypoint),
            files=artefact,
            environment=dict(environment or {}),
        )
        await job.submit(command)
        return job

    def job(self, job_id: str) -> Job:
        """The job of that id; what is known of it so far is in its `view`."""
        if job_id not in self.jobs:
            self.jobs[job_id] = Job(self, job_id)
        return self.jobs[job_id]

    async def release(self, timeout: float = 120.0) -> Receipt:
        """Ends the booking, refunds what was not used, and waits for the receipt; safe to repeat."""
        if not self.view.over:
            await self.send(stamped(ReleaseBooking(partner=self.partner, booking_id=self.booking_id)))
        return await self.settled(timeout)

    async def settled(self, timeout: float | None = None) -> Receipt:
        """Waits until the booking is settled; raises Refused when it ended before it began and cost nothing."""
        await self._until(lambda: self.view.over, timeout, "settled")
        if self.view.state == "refused" and self.view.refusal is not None:
            raise Refused(self.view.refusal)
        return await self.receipt()

    async def receipt(self) -> Receipt:
        """What the booking cost so far, from the ledger."""
        return await self.connection.ask(GetReceipt(identity=self.partner, booking_id=self.booking_id), Receipt)

    async def send(self, command: C, job: Job | None = None) -> None:
        """Publishes a command of this booking; a refusal of it as a message will be raised where one waits."""
        self._own_ids[command.id] = job
        await self.connection.publish(command)

    async def _upload(self, directory: Path, progress: artefacts.Progress) -> Artefact:
        with tempfile.TemporaryDirectory(prefix="bivouac-") as place:
            archive = Path(place, "files.zip")
            artefact = await asyncio.to_thread(files.pack, directory, archive)
            await artefacts.upload(self.connection, bucket_of_partner(self.partner), archive, artefact, progress)
        return artefact

    def _hear(self, message: Message) -> None:
        if isinstance(message, MessageRefused):
            self._hear_refusal(message)
            return
        if isinstance(message, JobLog):
            self.job(message.job_id).heard(message)
            return
        if message.id in self._heard_ids:
            return
        if len(self._heard_ids) < _IDS_KEPT:
            self._heard_ids.add(message.id)
        if isinstance(message, JobEvent):
            self.job(message.job_id).heard(message)
            self._story.add(message)
        elif isinstance(message, BookingEvent):
            self.view = booking_after(self.view, message)
            self._story.add(message)

    def _hear_refusal(self, message: MessageRefused) -> None:
        if message.message_id not in self._own_ids:
            return
        job, refused = self._own_ids[message.message_id], Refused(message.refusal)
        if job is not None:
            job.refused(refused)
        elif refused.reason is Reason.already_ended:
            self.ask_soon()  # what was to end is over: that is no failure, and asking tells how it ended
        else:
            self._send_refusals[message.message_id] = refused
        self._story.wake()

    async def _until(self, done: Callable[[], bool], timeout: float | None, word: str) -> None:
        deadline = time.monotonic() + timeout if timeout is not None else None
        while not done():
            if self._send_refusals:
                raise self._send_refusals.popitem()[1]
            left = deadline - time.monotonic() if deadline is not None else self.poll_seconds
            if left <= 0:
                raise TookTooLong(
                    f"Booking {self.booking_id} is not {word} yet: it is {self.view.state}. "
                    "It goes on; ask again with its id, or release it."
                )
            await self._news(left)

    async def _news(self, timeout: float = 3600.0) -> None:
        if not await self._story.grows(min(timeout, self.poll_seconds)):
            self.ask_soon()
