"""The inbox: which messages have had their effect. It is the guarantee; what the broker remembers only saves work."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from libs.postgres import Connection

Verdict = Literal["new", "repeat", "reused"]

_INSERT = """
    INSERT INTO inbox (key, digest, at)
    SELECT key, digest, $3 FROM unnest($1::text[], $2::bytea[]) AS come (key, digest) ORDER BY key
    ON CONFLICT (key) DO NOTHING RETURNING key
"""
_KNOWN = "SELECT key, digest FROM inbox WHERE key = ANY($1::text[])"


def key_of(subject: str, message_id: str) -> str:
    """Under what a message is remembered: kind, noun and sender of its subject, and its id.

    The sender belongs to it because ids are chosen by senders: nobody can use up the ids of another, by accident or
    on purpose.
    """
    return f"{'.'.join(subject.split('.', 3)[:3])} {message_id}"


def cause_of(subject: str, message_id: str) -> str:
    """What the ids of everything that follows from a message derive from: its id, with its sender before it.

    For the same reason: without the sender, two partners who both call a message `1` would cause events of one id.
    """
    tokens = subject.split(".", 3)
    sender = tokens[2] if len(tokens) > 3 else tokens[1]
    return message_id if message_id.startswith(f"{sender}/") else f"{sender}/{message_id}"


def digest_of(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:16]


async def admit(connection: Connection, keys: Sequence[str], digests: Sequence[bytes], now: int) -> list[Verdict]:
    """Record messages in this transaction; what is `new` may have its effect in it.

    A `repeat` has had its effect (or has it in this very group), a `reused` id belongs to another body. Keys are
    inserted in order, so that replicas of a service cannot deadlock here.
    """
    first: dict[str, bytes] = {}
    for key, digest in zip(keys, digests, strict=True):
        first.setdefault(key, digest)
    rows = await connection.fetch(_INSERT, list(first), list(first.values()), now)
    new = {row["key"] for row in rows}
    known = dict(first)
    if len(new) < len(first):
        old = await connection.fetch(_KNOWN, [key for key in first if key not in new])
        known.update((row["key"], row["digest"]) for row in old)
    verdicts: list[Verdict] = []
    for key, digest in zip(keys, digests, strict=True):
        if known[key] != digest:
            verdicts.append("reused")
        elif key in new:
            verdicts.append("new")
            new.discard(key)
        else:
            verdicts.append("repeat")
    return verdicts


async def had(connection: Connection, key: str) -> bytes | None:
    """The digest under which a message is remembered."""
    digest: bytes | None = await connection.fetchval("SELECT digest FROM inbox WHERE key = $1", key)
    return digest
