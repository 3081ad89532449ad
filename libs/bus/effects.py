"""Effects: work that needs the network, done before the transaction that records it and therefore idempotent."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from libs.bus import inbox
from libs.bus.reading import Inbound, headers_of
from libs.bus.settle import Settler, Stopping, reused_id
from libs.clock import now_ms
from libs.postgres import Away, Patience

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libs.bus.outbox import Headers
    from libs.bus.reach import Reach
    from libs.bus.rows import Rows
    from libs.bus.service import Service
    from libs.bus.transactions import Transactions
    from wire.message import Message

AT_ONCE = 16
_BUG_SECONDS = 5.0

log = logging.getLogger("bus")


class Effects:
    """Runs effects beside each other, in no particular order; what waits or runs is kept alive at the server."""

    def __init__(self, service: Service, transactions: Transactions, *, use_inbox: bool) -> None:
        self._service = service
        self._transactions = transactions
        self._use_inbox = use_inbox
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._running: set[asyncio.Task[None]] = set()
        self.reach: Reach
        self.settler: Settler

    def start(self, inbound: Inbound) -> None:
        task = asyncio.create_task(self._run(inbound))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def stop(self) -> None:
        """Cancels what runs and hands it back at once."""
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, inbound: Inbound) -> None:
        try:
            async with self._slots:
                await self._settle(inbound)
        except (asyncio.CancelledError, Stopping):
            await self.settler.retry(inbound.raw, 0.0)
        except Exception:
            log.exception("an effect could not be settled")
            await self.settler.retry(inbound.raw, _BUG_SECONDS)

    async def _settle(self, inbound: Inbound) -> None:
        patience = Patience(self._service.name)
        while True:
            try:
                verdict = await self._verdict(inbound)
                if verdict == "new":
                    with self._transactions.spans() as spans:
                        headers = headers_of(inbound, spans)
                        said = await self._service.effects[inbound.kind](inbound.message, self.reach)
                        verdict = await self._record(inbound, said, headers)
                break
            except Away as error:
                await patience.pause(error)
            except Exception as error:
                await self.settler.fail(inbound, error)
                return
        self.settler.counts[verdict] += 1
        if verdict == "reused":
            await self.settler.turn_away(reused_id(inbound))
        else:
            await self.settler.acknowledge(inbound.raw)

    async def _verdict(self, inbound: Inbound) -> inbox.Verdict:
        """Before the work, so that a repeat costs nothing; the transaction afterwards decides."""
        if not self._use_inbox:
            return "new"
        async with self._transactions.open([]) as connection:
            digest = await inbox.had(connection, inbound.key)
        if digest is None:
            return "new"
        return "repeat" if digest == inbound.digest else "reused"

    async def _record(self, inbound: Inbound, said: Sequence[Message], headers: Headers) -> inbox.Verdict:
        spoken: list[tuple[Rows, Headers]] = []
        patience = Patience(self._service.name)
        while True:
            try:
                async with self._transactions.open(spoken) as connection:
                    verdict: inbox.Verdict = "new"
                    if self._use_inbox:
                        (verdict,) = await inbox.admit(connection, [inbound.key], [inbound.digest], now_ms())
                    if verdict == "new":
                        rows = self._transactions.rows(connection, inbound.cause)
                        rows.say(*said)
                        spoken[:] = [(rows, headers)]
                return verdict
            except Away as error:
                await patience.pause(error)
