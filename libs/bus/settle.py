"""Settling what was delivered: the only place that acknowledges, retries or gives up, always after the commit.

Messages that wait together share one transaction and one sync. When it fails, each gets a transaction of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError

from libs.bus import inbox
from libs.bus.parking import Parking
from libs.bus.reading import Inbound, Reader, TurnedAway, headers_of, place_of
from libs.bus.retries import Failures, retry_delay
from libs.clock import now_ms
from libs.postgres import Away, Patience

if TYPE_CHECKING:
    from nats.aio.msg import Msg

    from libs.bus.outbox import Headers
    from libs.bus.rows import Rows
    from libs.bus.service import Service
    from libs.bus.transactions import Transactions

_BUG_SECONDS = 5.0

log = logging.getLogger("bus")


class Stopping(Exception):
    """The service stops while the database is away: what is in hand goes back."""


class Settler:
    """Takes groups as they come from the subscriptions of one service."""

    def __init__(
        self,
        service: Service,
        transactions: Transactions,
        parking: Parking,
        start_effect: Callable[[Inbound], None],
        *,
        use_inbox: bool,
    ) -> None:
        self._service = service
        self._transactions = transactions
        self._parking = parking
        self._start_effect = start_effect
        self._use_inbox = use_inbox
        self._reader = Reader([*service.handles, *service.effects])
        self.failures = Failures()
        self.held: dict[str, Msg] = {}
        """In hand and not yet settled, by the subject that acknowledges them: kept alive by `progress.keep_alive`."""
        self.counts: Counter[str] = Counter()
        self.stopping = asyncio.Event()

    async def settle(self, group: Sequence[Msg]) -> None:
        """Give each message of a group its effect, once, and then acknowledge it."""
        self.held.update((raw.reply, raw) for raw in group)
        try:
            if self.stopping.is_set():
                raise Stopping
            await self._settle(group)
        except Stopping:
            await self._hand_back(group, 0.0)
        except Exception:
            log.exception("a group could not be settled")
            await self._hand_back(group, _BUG_SECONDS)

    async def _hand_back(self, group: Sequence[Msg], delay: float) -> None:
        for raw in group:
            if raw.reply in self.held:
                await self.retry(raw, delay)

    async def _settle(self, group: Sequence[Msg]) -> None:
        together: list[Inbound] = []
        alone: list[Inbound] = []
        for raw in group:
            read = self._reader.read(raw)
            if isinstance(read, TurnedAway):
                await self.turn_away(read)
            elif read.kind in self._service.effects:
                self._start_effect(read)
            elif self.failures.suspect(raw):
                alone.append(read)
            else:
                together.append(read)
        if together and not await self._succeed(together):
            if len(together) == 1:
                alone = together + alone
            else:
                log.info("a group failed: its messages go one by one", extra={"data": {"messages": len(together)}})
                alone = together + alone
        for inbound in sorted(alone, key=lambda one: place_of(one.raw)[2]):
            await self._settle_alone(inbound)

    async def _settle_alone(self, inbound: Inbound) -> None:
        if self.failures.killed_too_often(inbound.raw):
            await self.fail(inbound, RuntimeError("It was delivered again and again and never settled."))
        else:
            await self._succeed([inbound])

    async def _succeed(self, group: Sequence[Inbound]) -> bool:
        """One transaction for the group, retried while the database is away. A lone message's failure is dealt with."""
        patience = Patience(self._service.name)
        while True:
            try:
                reused = await self._transact(group)
                break
            except Away as error:
                if self.stopping.is_set():
                    raise Stopping from error
                await patience.pause(error)
            except Exception as error:
                if len(group) == 1:
                    await self.fail(group[0], error)
                return False
        for inbound in group:
            if inbound in reused:
                await self.turn_away(reused_id(inbound))
            else:
                await self.acknowledge(inbound.raw)
        return True

    async def _transact(self, group: Sequence[Inbound]) -> set[Inbound]:
        """All effects of a group, or none; returns those whose id was used for another body."""
        spoken: list[tuple[Rows, Headers]] = []
        reused: set[Inbound] = set()
        with self._transactions.spans() as spans:
            async with self._transactions.open(spoken) as connection:
                verdicts: Sequence[inbox.Verdict] = ["new"] * len(group)
                if self._use_inbox:
                    keys, digests = [one.key for one in group], [one.digest for one in group]
                    verdicts = await inbox.admit(connection, keys, digests, now_ms())
                for inbound, verdict in zip(group, verdicts, strict=True):
                    if verdict == "new":
                        rows = self._transactions.rows(connection, inbound.cause)
                        spoken.append((rows, headers_of(inbound, spans)))
                        await self._service.handles[inbound.kind](inbound.message, rows)
                    elif verdict == "reused":
                        reused.add(inbound)
        for verdict in verdicts:
            self.counts[verdict] += 1
        return reused

    async def fail(self, inbound: Inbound, error: Exception) -> None:
        """A handler or an effect raised: again later, or, after too many times, never."""
        failures = self.failures.count(inbound.raw)
        delay = retry_delay(failures, error)
        log.error(
            "%s failed",
            inbound.kind.__name__,
            exc_info=error,
            extra={"data": {"message_id": inbound.message.id, "subject": inbound.raw.subject, "failures": failures}},
        )
        if delay is not None and not self.failures.killed_too_often(inbound.raw):
            await self.retry(inbound.raw, delay)
            return
        detail = "The service failed on this message and gave up."
        await self.turn_away(TurnedAway(inbound.raw, inbound.message.id, "internal", detail))

    async def turn_away(self, away: TurnedAway) -> None:
        """Say so, keep a copy, and have it delivered no more."""
        self.counts[away.reason] += 1
        try:
            await self._parking.park(away, self.stopping)
        except Away as error:
            raise Stopping from error
        self.failures.forget(away.raw)
        await self._answer(away.raw, b"+TERM")

    async def acknowledge(self, raw: Msg) -> None:
        self.failures.forget(raw)
        await self._answer(raw, b"")

    async def retry(self, raw: Msg, delay: float) -> None:
        self.counts["retried"] += 1
        await self._answer(raw, b'-NAK {"delay":%d}' % int(delay * 1e9) if delay else b"-NAK")

    async def _answer(self, raw: Msg, word: bytes) -> None:
        """What cannot be said now is as if it were never said: the message comes again and the inbox knows it."""
        self.held.pop(raw.reply, None)
        try:
            await raw._client.publish(raw.reply, word)
        except NatsError as error:
            log.debug("not acknowledged: %s", error)


def reused_id(inbound: Inbound) -> TurnedAway:
    detail = f"The id {inbound.message.id} was used before, for a message with another body."
    return TurnedAway(inbound.raw, inbound.message.id, "id_reused", detail)
