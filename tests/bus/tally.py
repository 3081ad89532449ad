"""A service made up for the tests: it counts what it is told, and says so; a process of its own for the drills."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from libs.bus.reach import Reach
from libs.bus.rows import Rows as BusRows
from libs.bus.serve import run
from libs.bus.service import Every, Refused, Service
from libs.bus.settle import Settler
from libs.settings import BusSettings, load
from wire.message import Command, Event, Message, Query, Reply, Telemetry


class Add(Command, frozen=True, kw_only=True):
    SUBJECT = "cmd.operator.{who}.add"
    who: str
    n: int
    fails: str = ""


class Copy(Command, frozen=True, kw_only=True):
    SUBJECT = "cmd.job.{who}.copy"
    who: str
    n: int
    seconds: float = 0.0


class Added(Event, frozen=True, kw_only=True):
    SUBJECT = "evt.tally.{who}.added"
    who: str
    n: int


class Copied(Event, frozen=True, kw_only=True):
    SUBJECT = "evt.tally.{who}.copied"
    who: str
    n: int


class Declined(Event, frozen=True, kw_only=True):
    SUBJECT = "evt.tally.{who}.declined"
    who: str
    message_id: str
    reason: str


class GetTally(Query, frozen=True, kw_only=True):
    SUBJECT = "qry.tally.{who}.sum"
    who: str


class Tally(Reply, frozen=True, kw_only=True):
    rows: int
    total: int


class Ping(Telemetry, frozen=True, kw_only=True):
    SUBJECT = "tel.tally.{who}.ping"
    who: str


class Rows(BusRows):
    async def add(self, who: str, n: int) -> None:
        await self.connection.execute("INSERT INTO tally (who, n) VALUES ($1, $2)", who, n)

    async def tally(self, who: str) -> Tally:
        row = await self.connection.fetchrow("SELECT count(*), coalesce(sum(n), 0) FROM tally WHERE who = $1", who)
        assert row is not None
        return Tally(rows=row[0], total=row[1])


async def add(order: Add, rows: Rows) -> None:
    await rows.add(order.who, order.n)
    rows.say(Added(who=order.who, n=order.n))
    assert not order.fails, order.fails


async def copy(order: Copy, reach: Reach) -> Sequence[Message]:
    await asyncio.sleep(order.seconds)
    return [Copied(who=order.who, n=order.n)]


async def get_tally(query: GetTally, rows: Rows) -> Tally:
    return await rows.tally(query.who)


async def tick(rows: Rows) -> None:
    await rows.add("clock", 1)


def refuse(subject: str, message_id: str, body: bytes, reason: Refused, detail: str) -> Message | None:
    return Declined(who=subject.split(".")[2], message_id=message_id, reason=reason)


def service(**changes: object) -> Service:
    tables: dict[str, object] = {
        "handles": {Add: add},
        "effects": {Copy: copy},
        "answers": {GetTally: get_tally},
        "refuse": refuse,
        "owns": ("job",),
    }
    return Service(name="counter", migrations="tests.bus", rows=Rows, **(tables | changes))  # type: ignore[arg-type]


TICKING = Every(seconds=0.1, task=tick, name="tick")


def die_once_between_commit_and_acknowledgement(mark: Path) -> None:
    """Kills this process, as SIGKILL would, at the first acknowledgement; a process started later lives."""
    if mark.exists():
        return

    async def die(_settler: Settler, _raw: object) -> None:
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    Settler.acknowledge = die  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    if "DIE_ONCE" in os.environ:
        die_once_between_commit_and_acknowledgement(Path(os.environ["DIE_ONCE"]))
    run(service(), load(BusSettings))
