"""The same client for programs without an event loop: each call runs in a loop of its own thread and waits."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from bivouac import artefacts
from bivouac import booking as live
from bivouac import client as live_client
from bivouac import job as live_job
from bivouac.view import BookingView, JobView
from wire.booking import BookingEvent, BookingStatus
from wire.job import JobEvent
from wire.ledger import Balance, Receipt, Statement
from wire.node import FleetView
from wire.quote import Quote
from wire.values import ClusterRequest, Money

T = TypeVar("T")


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bivouac", daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def each(self, source: AsyncIterator[T]) -> Iterator[T]:
        async def one() -> T:
            return await anext(source)

        while True:
            try:
                entry = self.wait(one())
            except StopAsyncIteration:
                return
            yield entry

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Job:
    """See `bivouac.Job`."""

    def __init__(self, loop: _Loop, job: live_job.Job) -> None:
        self._loop, self._job = loop, job
        self.job_id = job.job_id

    @property
    def view(self) -> JobView:
        return self._job.view

    def finished(self, timeout: float | None = None) -> JobView:
        return self._loop.wait(self._job.finished(timeout))

    def logs(self) -> Iterator[str]:
        return self._loop.each(self._job.logs())

    def whole_log(self) -> list[str]:
        return self._loop.wait(self._job.whole_log())

    def result(self, to: str | Path, *, timeout: float | None = None) -> list[Path]:
        return self._loop.wait(self._job.result(to, timeout=timeout))

    def cancel(self) -> JobView:
        return self._loop.wait(self._job.cancel())


class Booking:
    """See `bivouac.Booking`; as a context manager it waits until the cluster is ready, and releases it at the end."""

    def __init__(self, loop: _Loop, booking: live.Booking) -> None:
        self._loop, self._booking = loop, booking
        self.booking_id = booking.booking_id

    @property
    def view(self) -> BookingView:
        return self._booking.view

    def ready(self, timeout: float = 900.0) -> BookingView:
        return self._loop.wait(self._booking.ready(timeout))

    def events(self) -> Iterator[BookingEvent | JobEvent]:
        return self._loop.each(self._booking.events())

    def run(
        self,
        entrypoint: Sequence[str],
        *,
        files: str | Path,
        environment: Mapping[str, str] | None = None,
        job_id: str | None = None,
        progress: artefacts.Progress = artefacts.silent,
    ) -> Job:
        job = self._booking.run(entrypoint, files=files, environment=environment, job_id=job_id, progress=progress)
        return Job(self._loop, self._loop.wait(job))

    def status(self) -> BookingStatus:
        return self._loop.wait(self._booking.status())

    def release(self, timeout: float = 120.0) -> Receipt:
        return self._loop.wait(self._booking.release(timeout))

    def receipt(self) -> Receipt:
        return self._loop.wait(self._booking.receipt())

    def __enter__(self) -> Self:
        try:
            self.ready()
        except BaseException as error:
            self._leave(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        self._loop.wait(live_client.leave(self._booking, error))


class Client:
    """See `bivouac.Client`: `with Client(url, identity="acme", key_file="acme.seed") as client:`."""

    def __init__(self, url: str, *, identity: str, key_file: str | Path | None = None, seed: str | None = None) -> None:
        self._loop = _Loop()
        try:
            connecting = live_client.Client.connect(url, identity=identity, key_file=key_file, seed=seed)
            self._client = self._loop.wait(connecting)
        except BaseException:
            self._loop.stop()
            raise

    def quote(self, request: ClusterRequest) -> Quote:
        return self._loop.wait(self._client.quote(request))

    def book(
        self,
        request: ClusterRequest,
        *,
        max_total: Money | Decimal | str,
        quote_id: str | None = None,
        booking_id: str | None = None,
    ) -> Booking:
        async def place() -> live.Booking:
            return await self._client.book(request, max_total=max_total, quote_id=quote_id, booking_id=booking_id)

        return Booking(self._loop, self._loop.wait(place()))

    def booking(self, booking_id: str) -> Booking:
        return Booking(self._loop, self._loop.wait(self._client.booking(booking_id)))

    def bookings(self, limit: int = 20) -> tuple[BookingStatus, ...]:
        return self._loop.wait(self._client.bookings(limit))

    def balance(self) -> Balance:
        return self._loop.wait(self._client.balance())

    def receipt(self, booking_id: str) -> Receipt:
        return self._loop.wait(self._client.receipt(booking_id))

    def statement(self, node: str, epoch: int | None = None) -> Statement:
        return self._loop.wait(self._client.statement(node, epoch))

    def fleet(self, model: str | None = None) -> FleetView:
        return self._loop.wait(self._client.fleet(model))

    def close(self) -> None:
        self._loop.wait(self._client.close())
        self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
