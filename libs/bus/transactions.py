"""The transactions of a service process: one at a time on one connection, outbox included, each done exactly once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from libs.bus import outbox
from libs.clock import now_ms
from libs.postgres import Away, Patience, Writer
from libs.telemetry import Spans

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from libs.bus.outbox import Headers
    from libs.bus.rows import Rows
    from libs.bus.service import Service
    from libs.postgres import Connection
    from libs.telemetry import Tracing

T = TypeVar("T")

_WRITTEN = "SELECT pg_current_xact_id_if_assigned()::text"
_HAPPENED = "SELECT pg_xact_status($1::text::xid8) = 'committed'"


class Transactions:
    """Used by groups of messages, by effects, by background tasks and by what runs every so often."""

    def __init__(self, service: Service, url: str, tracing: Tracing | None) -> None:
        self._service = service
        self._tracing = tracing
        self._writer = Writer(url, service.name)
        self.wake: Callable[[], None] = lambda: None
        """Called after a commit that put something into the outbox."""
        self.relay_is_here: Callable[[], bool] = lambda: False

    def spans(self) -> Spans:
        return Spans(self._tracing, self._service.traced)

    def rows(self, connection: Connection, cause_id: str) -> Rows:
        return self._service.rows(connection, now_ms(), cause_id)

    @asynccontextmanager
    async def open(self, spoken: list[tuple[Rows, Headers]]) -> AsyncIterator[Connection]:
        """A transaction; what the rows in `spoken` said by its end is in the outbox when it commits. Raises Away."""
        said = 0
        try:
            async with self._writer.transaction() as connection:
                yield connection
                said = await self._record(connection, spoken)
        finally:
            if said:  # also where the connection was lost in the commit, which may have happened
                self.wake()

    async def transact(self, cause_id: str, work: Callable[[Any], Awaitable[T]]) -> T:
        """`work` on Rows in a transaction of its own; waits while the database is away."""
        patience = Patience(f"{self._service.name}: {cause_id}")
        while True:
            try:
                return await self.attempt(cause_id, work)
            except Away as error:
                await patience.pause(error)

    async def attempt(self, cause_id: str, work: Callable[[Any], Awaitable[T]]) -> T:
        """As `transact`, but raises Away where the database is away before the transaction has happened.

        Where the connection is lost in the middle of the commit, the server is asked whether it happened.
        """
        number: str | None = None
        try:
            async with self._writer.transaction() as connection:
                rows = self.rows(connection, cause_id)
                result = await work(rows)
                headers = {"correlation_id": cause_id, "causation_id": cause_id}
                said = await self._record(connection, [(rows, headers)])
                number = await connection.fetchval(_WRITTEN)
        except Away:
            if number is None or not await self._happened(number):
                raise
        if said:
            self.wake()
        return result

    async def _record(self, connection: Connection, spoken: Sequence[tuple[Rows, Headers]]) -> int:
        said = await outbox.record(connection, spoken)
        if said and not self.relay_is_here():
            await outbox.announce(connection, self._service.name)
        return said

    async def _happened(self, number: str) -> bool:
        patience = Patience(f"{self._service.name}: was transaction {number} committed")
        while True:
            try:
                async with self._writer.turn() as connection:
                    return bool(await connection.fetchval(_HAPPENED, number))
            except Away as error:
                await patience.pause(error)

    async def close(self) -> None:
        await self._writer.close()
