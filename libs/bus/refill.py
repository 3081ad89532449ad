"""Comparing the outbox with the streams: what a stream has lost, the relay publishes again, so no loss is for good."""

from __future__ import annotations

import base64
import binascii
import logging
from typing import TYPE_CHECKING, Any

from libs.bus import streams
from wire.message import deduplication_id
from wire.streams import STREAMS, Stream

if TYPE_CHECKING:
    from nats.aio.client import Client

    from libs.postgres import Connection

_KNOWN = "SELECT created FROM streams WHERE name = $1"
_REMEMBER = """
    INSERT INTO streams (name, created) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET created = excluded.created
"""
_ALL_AGAIN = "UPDATE outbox SET stream_seq = NULL WHERE stream = $1 AND stream_seq IS NOT NULL AND at > $2"
_TAIL_AGAIN = "UPDATE outbox SET stream_seq = NULL WHERE stream = $1 AND stream_seq > $2"
_SENT_BETWEEN = """
    SELECT stream_seq, message_id, body FROM outbox WHERE stream = $1 AND stream_seq BETWEEN $2 AND $3
    ORDER BY stream_seq DESC OFFSET $4 LIMIT 1
"""
_COUNT_BETWEEN = "SELECT count(*) FROM outbox WHERE stream = $1 AND stream_seq BETWEEN $2 AND $3"
_MESSAGE_NOT_FOUND = 10037

log = logging.getLogger("bus")


async def compare(connection: Connection, client: Client, now: int) -> int:
    """Mark as unsent what its stream does not have (any more); returns how many rows.

    A stream that was made at another time than the one we knew is empty of ours, or was: everything that it would
    still keep goes out again. A stream whose last number lies below ours, or that has other messages at our numbers,
    lost its end. What consumers have had already their inboxes skip.
    """
    again = 0
    for stream in STREAMS:
        info = await streams.info(client, stream.name)
        known = await connection.fetchval(_KNOWN, stream.name)
        if known == info["created"]:
            status = await connection.execute(_TAIL_AGAIN, stream.name, await _intact(connection, client, stream, info))
        elif known is not None:
            status = await connection.execute(_ALL_AGAIN, stream.name, now - stream.max_age_seconds * 1000)
        else:
            status = "UPDATE 0"
        if known != info["created"]:
            await connection.execute(_REMEMBER, stream.name, info["created"])
        lost = int(status.rsplit(" ", 1)[-1])
        if lost:
            log.warning("the stream lost messages: they go out again", extra={"data": {stream.name: lost}})
        again += lost
    return again


async def _intact(connection: Connection, client: Client, stream: Stream, info: dict[str, Any]) -> int:
    """The number up to which the stream is the one that took our messages.

    A work queue deletes what was acknowledged, so there only the last number tells. Elsewhere our newest messages are
    looked at, and where they are others, the place from which they are is found by halving.
    """
    first, last = info["state"]["first_seq"], info["state"]["last_seq"]
    if stream.retention == "workqueue":
        return int(last)
    count: int = await connection.fetchval(_COUNT_BETWEEN, stream.name, first, last)
    lost, checked = 0, count  # of our rows, newest first: `lost` are known to be lost, from `checked` on all are there
    probe = 0
    while lost < checked:
        row = await connection.fetchrow(_SENT_BETWEEN, stream.name, first, last, probe)
        assert row is not None
        if await _holds(client, stream.name, row["stream_seq"], deduplication_id(row["message_id"], row["body"])):
            checked = probe
        else:
            lost = probe + 1
        probe = (lost + checked) // 2
    if not lost:
        return int(last)
    row = await connection.fetchrow(_SENT_BETWEEN, stream.name, first, last, lost - 1)
    assert row is not None
    return int(row["stream_seq"]) - 1


async def _holds(client: Client, stream: str, sequence: int, deduplication: str) -> bool:
    """Whether the message with that number is ours; one that was deleted singly counts as ours."""
    try:
        stored = await streams.api(client, f"STREAM.MSG.GET.{stream}", {"seq": sequence})
    except streams.ApiError as error:
        if error.code == _MESSAGE_NOT_FOUND:
            return True
        raise
    try:
        headers = base64.b64decode(stored["message"].get("hdrs", ""))
    except binascii.Error:
        return False
    return f"Nats-Msg-Id: {deduplication}\r\n".encode() in headers
