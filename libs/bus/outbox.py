"""The outbox: what a transaction says is a row of that transaction, published in order once it has committed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from wire.message import BODY_BYTES_MAX, encode
from wire.streams import stream_of

if TYPE_CHECKING:
    from libs.bus.rows import Rows
    from libs.postgres import Connection

Headers = dict[str, str]

_INSERT = """
    INSERT INTO outbox (message_id, subject, stream, body, headers, at)
    SELECT id, subject, stream, body, headers, at
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::jsonb[], $6::bigint[])
        WITH ORDINALITY AS said (id, subject, stream, body, headers, at, nth)
    ORDER BY nth
    ON CONFLICT (message_id, subject) DO NOTHING
"""
_UNSENT = """
    SELECT seq, message_id, subject, stream, body, headers FROM outbox
    WHERE stream_seq IS NULL AND stream <> ALL($2::text[]) ORDER BY seq LIMIT $1
"""
_SENT = """
    UPDATE outbox SET stream_seq = sent.stream_seq
    FROM unnest($1::bigint[], $2::bigint[]) AS sent (seq, stream_seq) WHERE outbox.seq = sent.seq
"""
_FORGET_OUTBOX = "DELETE FROM outbox WHERE stream_seq IS NOT NULL AND at < $1"
_FORGET_INBOX = "DELETE FROM inbox WHERE at < $1"
_DAY_MS = 86_400_000

log = logging.getLogger("bus")


class Unsent(NamedTuple):
    """An outbox row on its way to its stream."""

    seq: int
    message_id: str
    subject: str
    stream: str
    body: bytes
    headers: str


async def record(connection: Connection, spoken: Sequence[tuple[Rows, Headers]]) -> int:
    """Write down, in one statement, what these rows said, with the headers of what caused it; returns how many.

    A message that is there already, under its id and subject, stays as it was: work that is done again says the same.
    """
    ids: list[str] = []
    subjects: list[str] = []
    streams: list[str] = []
    bodies: list[bytes] = []
    headers: list[str] = []
    times: list[int] = []
    for rows, caused_by in spoken:
        if not rows.said:
            continue
        carried = msgspec.json.encode(caused_by).decode()
        for message in rows.said:
            subject, body = message.subject(), encode(message)
            assert len(body) <= BODY_BYTES_MAX, f"{subject}: {len(body)} bytes are more than anyone reads"
            ids.append(message.id)
            subjects.append(subject)
            streams.append(stream_of(subject).name)
            bodies.append(body)
            headers.append(carried)
            times.append(message.at)
    if not ids:
        return 0
    status = await connection.execute(_INSERT, ids, subjects, streams, bodies, headers, times)
    written = int(status.rsplit(" ", 1)[-1])
    if written < len(ids):
        log.info("said before, not said again", extra={"data": {"messages": ids, "written": written}})
    return len(ids)


def channel(service: str) -> str:
    """Where replicas that do not lead tell the one that does about new rows; channels are per database, not schema."""
    return f"outbox_{service}"


async def announce(connection: Connection, service: str) -> None:
    """In the transaction: the notice leaves with its commit."""
    await connection.execute("SELECT pg_notify($1, '')", channel(service))


async def unsent(connection: Connection, at_most: int, except_for: Sequence[str] = ()) -> list[Unsent]:
    """The oldest unsent rows, but those of some streams."""
    return [Unsent(*row) for row in await connection.fetch(_UNSENT, at_most, list(except_for))]


async def mark_sent(connection: Connection, rows: Sequence[Unsent], sequences: Sequence[int]) -> None:
    if rows:
        await connection.execute(_SENT, [row.seq for row in rows], list(sequences))


async def forget(connection: Connection, now: int, keep_days: int) -> None:
    """Delete what no stream keeps any more; the inbox remembers twice as long as any outbox can repeat."""
    if keep_days:
        await connection.execute(_FORGET_OUTBOX, now - keep_days * _DAY_MS)
        await connection.execute(_FORGET_INBOX, now - 2 * keep_days * _DAY_MS)
