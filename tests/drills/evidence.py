"""What is left of a drill: the events as stored, each service's durable consumers, and the rows of all schemas."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import msgspec
from nats.aio.client import Client as Nats

from libs.bus import streams
from libs.clock import now_ms
from tests.drills.faults import REPEATED
from wire.streams import EVENTS, STREAMS

_REST_MS = 1000


@dataclass(frozen=True)
class Stored:
    """A message of a stream; `again` marks those that the drill itself stored once more."""

    subject: str
    body: bytes
    deduplication: str

    @property
    def again(self) -> bool:
        return self.deduplication.startswith(REPEATED)

    @property
    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = msgspec.json.decode(self.body)
        return content

    @property
    def verb(self) -> str:
        return self.subject.rsplit(".", 1)[-1]


@dataclass(frozen=True)
class Consumer:
    """`waiting` counts what it has not been handed yet, or has not acknowledged."""

    stream: str
    name: str
    subjects: Sequence[str]
    waiting: int

    def hears(self, subject: str) -> bool:
        return any(_fits(pattern.split("."), subject.split(".")) for pattern in self.subjects)


@dataclass
class Evidence:
    """Read once everything has come to rest; the ledger still closes its epochs, after the `horizon` (Unix ms)."""

    database: asyncpg.Connection[asyncpg.Record]
    horizon: int
    events: list[Stored] = field(default_factory=list)
    dead: list[Stored] = field(default_factory=list)
    consumers: list[Consumer] = field(default_factory=list)

    async def rows(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        return await self.database.fetch(sql, *arguments)


async def collect(inside: Nats, database: asyncpg.Connection[asyncpg.Record]) -> Evidence:
    found = Evidence(database, now_ms() - _REST_MS)
    found.events = await stored(inside, EVENTS.name)
    found.dead = await stored(inside, "DEAD")
    found.consumers = await consumers(inside)
    return found


async def stored(inside: Nats, stream: str) -> list[Stored]:
    """All of a stream, in its order."""
    info = (await streams.info(inside, stream))["state"]
    found: list[Stored] = []
    for sequence in range(info["first_seq"], info["last_seq"] + 1) if info["messages"] else ():
        message = (await streams.api(inside, f"STREAM.MSG.GET.{stream}", {"seq": sequence}))["message"]
        headers = base64.b64decode(message.get("hdrs", "")).decode()
        ids = [line.split(": ", 1)[1] for line in headers.split("\r\n") if line.startswith("Nats-Msg-Id: ")]
        body = base64.b64decode(message.get("data", ""))
        found.append(Stored(message["subject"], body, ids[0] if ids else ""))
    return found


async def consumers(inside: Nats) -> list[Consumer]:
    """The durable ones of every stream."""
    found = []
    for stream in STREAMS:
        for info in (await streams.api(inside, f"CONSUMER.LIST.{stream.name}"))["consumers"]:
            config = info["config"]
            subjects = config.get("filter_subjects") or [config.get("filter_subject", ">")]
            waiting = info["num_pending"] + info["num_ack_pending"]
            found.append(Consumer(stream.name, info["name"], subjects, waiting))
    return found


def _fits(pattern: list[str], tokens: list[str]) -> bool:
    for place, word in enumerate(pattern):
        if word == ">":
            return len(tokens) > place
        if place >= len(tokens) or word not in ("*", tokens[place]):
            return False
    return len(pattern) == len(tokens)
