"""Parking what will never be handled: its sender is told, and a copy is kept in the stream of dead letters."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from libs.bus.inbox import digest_of
from libs.bus.reading import TurnedAway, place_of
from libs.postgres import Away, Patience
from wire.message import BODY_BYTES_MAX, Message
from wire.streams import DEAD

if TYPE_CHECKING:
    import asyncio

    from nats.aio.client import Client

    from libs.bus.rows import Rows
    from libs.bus.service import Service
    from libs.bus.transactions import Transactions

_ID_MAX, _DETAIL_MAX = 200, 500
_ACK_SECONDS = 5.0

log = logging.getLogger("bus")


class Parking:
    def __init__(self, service: Service, transactions: Transactions, client: Client) -> None:
        self._service = service
        self._transactions = transactions
        self._jetstream = client.jetstream(timeout=_ACK_SECONDS)

    async def park(self, away: TurnedAway, stopping: asyncio.Event) -> None:
        """Returns when refusal and copy are stored; raises Away where the service stops before that."""
        patience = Patience(f"{self._service.name}: a dead letter")
        while True:
            try:
                await self._refuse(away)
                await self._copy(away)
                return
            except (Away, NatsError, JetStreamError, TimeoutError) as error:
                if stopping.is_set():
                    raise Away("stopping") from error
                await patience.pause(error)

    async def _refuse(self, away: TurnedAway) -> None:
        """The service's own words for it, through the outbox. A refusal that cannot be made is logged, not raised."""
        if self._service.refuse is None:
            return
        raw, message_id = away.raw, away.message_id[:_ID_MAX]
        # One refusal for one delivery to the stream, however often it is handed out: not the sender's id, of which
        # there may be none, or two.
        stream, sequence, _ = place_of(raw)
        cause = f"{stream}.{sequence}.{digest_of(raw.data).hex()[:8]}"
        try:
            refusal = self._service.refuse(raw.subject, message_id, raw.data, away.reason, away.detail[:_DETAIL_MAX])
            if refusal is not None:
                await self._transactions.attempt(cause, partial(_say, refusal))
        except Away:
            raise
        except Exception:
            log.exception("no refusal could be made", extra={"data": {"subject": raw.subject}})

    async def _copy(self, away: TurnedAway) -> None:
        raw = away.raw
        stream, sequence, delivered = place_of(raw)
        headers: dict[str, Any] = {
            "Nats-Msg-Id": f"{self._service.name}.{stream}.{sequence}.{digest_of(raw.data).hex()}",
            "dead-by": self._service.name,
            "dead-reason": away.reason,
            "dead-detail": away.detail[:_DETAIL_MAX].encode("ascii", "replace").decode(),
            "dead-deliveries": str(delivered),
            "dead-origin": f"{stream}.{sequence}",
        }
        subject = DEAD.subjects[0].removesuffix(">") + raw.subject
        # What is longer is no message, and with these headers it might not fit into the stream.
        await self._jetstream.publish(subject, raw.data[:BODY_BYTES_MAX], headers=headers)
        log.warning(
            "turned away",
            extra={"data": {"subject": raw.subject, "message_id": away.message_id[:_ID_MAX], "reason": away.reason}},
        )


async def _say(refusal: Message, rows: Rows) -> None:
    rows.say(refusal)
