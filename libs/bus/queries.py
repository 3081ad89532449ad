"""Queries: asked and answered over core NATS, one answer for all replicas, in a read-only transaction."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from faststream.nats import NatsBroker
from nats.errors import Error as NatsError

from libs.bus.ask import ERROR_CODE_HEADER, ERROR_HEADER
from libs.clock import now_ms
from libs.postgres import AWAY
from wire.message import Malformed, Query, decode, encode

if TYPE_CHECKING:
    import asyncpg
    from nats.aio.msg import Msg

    from libs.bus.service import Answer, Refused, Service

AT_ONCE = 8
"""Of one kind; beyond the pool's connections they wait for each other."""

log = logging.getLogger("bus")


def subscribe(broker: NatsBroker, service: Service, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    for kind, answer in service.answers.items():
        subscriber = broker.subscriber(
            kind.pattern(), queue=service.name, parser=_parse, decoder=_decode, no_reply=True, max_workers=AT_ONCE
        )
        subscriber(_answering(service, kind, answer, pool))


async def _parse(message: Msg, original: Any) -> Any:
    return await original(message)


async def _decode(message: Any) -> Msg:
    return message.raw_message  # type: ignore[no-any-return]


def _answering(service: Service, kind: type[Query], answer: Answer, pool: asyncpg.Pool[asyncpg.Record]) -> Any:
    async def reply(asked: Msg) -> None:
        try:
            query = decode(kind, asked.subject, asked.data)
        except Malformed as error:
            await _refuse(service, asked, "malformed", str(error))
            return
        try:
            async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
                said = await answer(query, service.rows(connection, now_ms(), query.id))
        except AWAY as error:
            await _respond(asked, b"", {ERROR_HEADER: f"The database is away: {error}.", ERROR_CODE_HEADER: "503"})
            return
        except Exception:
            log.exception("%s failed", kind.__name__, extra={"data": {"message_id": query.id}})
            await _refuse(service, asked, "internal", "The service failed on this query.")
            return
        await _respond(asked, encode(said), None)

    return reply


async def _refuse(service: Service, asked: Msg, reason: Refused, detail: str) -> None:
    said = service.refuse_query(asked.subject, reason, detail) if service.refuse_query else None
    if said is None:
        await _respond(asked, b"", {ERROR_HEADER: detail, ERROR_CODE_HEADER: "400" if reason == "malformed" else "500"})
    else:
        await _respond(asked, encode(said), None)


async def _respond(asked: Msg, body: bytes, headers: dict[str, str] | None) -> None:
    if not asked.reply:
        return
    try:
        await asked._client.publish(asked.reply, body, headers=headers)
    except NatsError as error:
        log.debug("not answered: %s", error)
