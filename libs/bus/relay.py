"""The relay: carries outbox rows to their streams, in order, one relay a schema at a time, until they are there."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from nats.errors import Error as NatsError

from libs.bus import outbox, refill, streams
from libs.bus.publish import BATCH_MAX, NotStored, Publisher
from libs.bus.streams import ApiError
from libs.clock import now_ms
from libs.postgres import Away, Patience, Writer
from wire.streams import STREAMS

if TYPE_CHECKING:
    from nats.aio.client import Client

    from libs.bus.outbox import Unsent
    from libs.postgres import Connection
    from libs.settings import BusSettings

GROUP_MAX = BATCH_MAX

_LEAD = "SELECT pg_try_advisory_lock(hashtext('outbox relay'), hashtext(current_schema()))"
_FOLLOWER_SECONDS = 1.0
_COMPARE_SECONDS = 30.0
_FORGET_SECONDS = 3600.0
_IDLE_SECONDS = 5.0
"""Nobody wakes the relay for rows that another replica wrote and could not announce."""

_STALL_SECONDS = (0.05, 2.0)

log = logging.getLogger("bus")


class Stall(NamedTuple):
    """A stream that did not take what it was given is left alone until then."""

    until: float
    pause: float


class Relay:
    """One a service process; of a service's replicas the one whose connection holds the lock does the work.

    Order is kept within a stream. A stream that takes nothing (it is full, say) does not hold the others up.
    """

    def __init__(self, name: str, client: Client, settings: BusSettings, keep_days: int) -> None:
        self._client = client
        self._settings = settings
        self._keep_days = keep_days
        self._publisher = Publisher(client)
        # A lost mark only means that the row is published once more under the same id, so no sync is waited for.
        self._writer = Writer(settings.database_url, f"{name} relay", synchronous_commit="off")
        self._channel = outbox.channel(name)
        self._woken = asyncio.Event()
        self._idle = asyncio.Event()
        self._stalled: dict[str, Stall] = {}
        self._compare_at = 0.0
        self._forget_at = 0.0
        self._led_on: Connection | None = None
        self.leads = False

    def wake(self) -> None:
        """There are new rows."""
        self._idle.clear()
        self._woken.set()

    def doubt(self) -> None:
        """The streams may have lost something: compare before the next publish."""
        self._compare_at = 0.0
        self._stalled.clear()
        self._woken.set()

    def reconnected(self) -> None:
        """To a server that may have been started anew, perhaps on an empty disk."""
        self._publisher.abandon()
        self.doubt()

    async def finish(self, seconds: float) -> None:
        """Wait until nothing is left to publish, but not for long: what is left goes out at the next start."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)

    async def run(self) -> None:
        await self._publisher.open()
        patience = Patience("relay")
        try:
            while True:
                try:
                    await self._step()
                    patience = Patience("relay")
                except (Away, ApiError, NatsError, TimeoutError) as error:
                    self.doubt()
                    await patience.pause(error)
        finally:
            self.leads = False
            await self._writer.close()

    async def _step(self) -> None:
        """Publish what is unsent; where there is nothing to do or no way to do it, wait until woken."""
        self._woken.clear()
        found = False
        if self._client.is_connected:
            async with self._writer.turn() as connection:
                if await self._lead(connection):
                    await self._look_after(connection)
                    found = await self._carry(connection)
        if not found:
            if not self._woken.is_set():
                self._idle.set()
            await self._sleep()

    async def _lead(self, connection: Connection) -> bool:
        if self._led_on is not connection:
            self.leads = bool(await connection.fetchval(_LEAD))
            if self.leads:
                await connection.add_listener(self._channel, lambda *_: self.wake())
                self._led_on = connection
                self._compare_at = 0.0
        return self.leads

    async def _look_after(self, connection: Connection) -> None:
        now = time.monotonic()
        if now >= self._compare_at:
            try:
                await refill.compare(connection, self._client, now_ms())
            except ApiError as error:
                if error.code != streams.STREAM_NOT_FOUND:
                    raise
                await streams.ensure(self._client, STREAMS, self._settings.store_bytes, self._settings.replicas)
                await refill.compare(connection, self._client, now_ms())
            self._compare_at = now + _COMPARE_SECONDS
        if now >= self._forget_at:
            await outbox.forget(connection, now_ms(), self._keep_days)
            self._forget_at = now + _FORGET_SECONDS

    async def _carry(self, connection: Connection) -> bool:
        """Publish the oldest unsent rows of every stream that takes any; False where there were none."""
        now = time.monotonic()
        waiting = [name for name, stall in self._stalled.items() if stall.until > now]
        rows = await outbox.unsent(connection, GROUP_MAX, waiting)
        by_stream: dict[str, list[Unsent]] = {}
        for row in rows:
            by_stream.setdefault(row.stream, []).append(row)
        for stream, group in by_stream.items():
            try:
                sequences = await self._publisher.publish(group)
            except NotStored as error:
                taken = [
                    (row, number) for row, number in zip(group, error.sequences, strict=True) if number is not None
                ]
                await outbox.mark_sent(connection, [row for row, _ in taken], [number for _, number in taken])
                self._stall(stream, error)
            else:
                await outbox.mark_sent(connection, group, sequences)
                self._stalled.pop(stream, None)
        return bool(rows)

    def _stall(self, stream: str, error: NotStored) -> None:
        stall = self._stalled.get(stream)
        pause = min(2 * stall.pause, _STALL_SECONDS[1]) if stall else _STALL_SECONDS[0]
        if stall is None:
            log.warning("a stream takes nothing", extra={"data": {"stream": stream, "why": str(error)}})
        self._stalled[stream] = Stall(time.monotonic() + pause, pause)
        self._compare_at = 0.0

    async def _sleep(self) -> None:
        seconds = _IDLE_SECONDS if self.leads else _FOLLOWER_SECONDS
        if self._stalled:
            seconds = min(seconds, max(0.0, min(stall.until for stall in self._stalled.values()) - time.monotonic()))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), seconds)
