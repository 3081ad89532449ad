"""The drill: everything is killed at random under load; afterwards nothing is lost, doubled, or left open.

BIVOUAC_DRILL_SECONDS makes it longer, BIVOUAC_DRILL_SEED repeats the choices of an earlier one.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from nats.aio.client import Client as Nats
from nats.errors import Error as NatsError

from libs.bus import streams
from tests.drills.evidence import collect, consumers
from tests.drills.faults import Faults
from tests.drills.load import Customer
from tests.drills.network import SCHEMAS, DrillNetwork, network, supervised
from tests.drills.verdict import breaches, spools_are_empty
from wire.streams import EVENTS

SECONDS = float(os.environ.get("BIVOUAC_DRILL_SECONDS", "30"))
CUSTOMERS = {"acme": 3, "zenith": 3}
_SETTLE_SECONDS = 60.0
_SHOWN_MAX = 50


@dataclass
class Report:
    """What a drill did and what it found."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    breaches: list[str] = field(default_factory=list)
    events: int = 0
    bookings: int = 0

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.bookings} bookings, {self.events} events, {self.faults.total()} faults "
            f"{dict(self.faults)}, outcomes {dict(self.outcomes)}, {len(self.breaches)} breaches\n"
            + "\n".join(self.breaches[:_SHOWN_MAX])
        )


async def still_to_do(inside: Nats, made: DrillNetwork) -> list[str]:
    """What has not come to rest yet."""
    connection = await made.database()
    try:
        outboxes = " + ".join(f"(SELECT count(*) FROM {name}.outbox WHERE stream_seq IS NULL)" for name in SCHEMAS)
        unsent = await connection.fetchval(f"SELECT {outboxes}")
        open_ = await connection.fetchval(
            "SELECT count(*) FROM scheduler.bookings WHERE state NOT IN ('settled', 'refused')"
        )
    finally:
        await connection.close()
    waiting = sum(consumer.waiting for consumer in await consumers(inside))
    found = {"unsent": unsent, "bookings": open_, "waiting": waiting}
    return [f"{word} {count}" for word, count in found.items() if count]


async def come_to_rest(inside: Nats, made: DrillNetwork, seconds: float) -> None:
    """Twice in a row nothing left, or the time is over: then the verdict says what."""
    deadline, quiet = time.monotonic() + seconds, 0
    while quiet < 2 and time.monotonic() < deadline:
        try:
            quiet = 0 if await still_to_do(inside, made) else quiet + 1
        except (NatsError, streams.ApiError, TimeoutError):
            quiet = 0
        await asyncio.sleep(0.5)


async def drill(directory: Path, seed: int, seconds: float, settle: float, inbox: str = "on") -> Report:
    report, chance = Report(seed), random.Random(seed)
    async with network(directory / "net", BIVOUAC_INBOX=inbox) as made:
        inside = await made.inside()
        customers = [
            Customer(f"{partner}{n}", await made.partner(partner), directory / "work", random.Random(chance.random()))
            for partner, count in CUSTOMERS.items()
            for n in range(count)
        ]
        async with supervised(made):
            faults = Faults(made, inside, chance)
            shopping = [asyncio.create_task(one.shop(time.monotonic() + seconds)) for one in customers]
            await faults.run(seconds)
            await asyncio.gather(*shopping)
            await asyncio.gather(*(one.finish(settle) for one in customers))
            await made.restart_with("prober", BIVOUAC_PROBE_INTERVAL_SECONDS="86400")  # it would never rest
            await come_to_rest(inside, made, settle)
            await repeat_everything(faults, inside)
            await come_to_rest(inside, made, settle)
            report.faults, report.outcomes = faults.done, sum((one.outcomes for one in customers), Counter())
            report.breaches = [*made.died, *(wrong for one in customers for wrong in one.wrong)]
            await judge(made, inside, report)
        for one in customers:
            await one.client.close()
        await inside.close()
    return report


async def judge(made: DrillNetwork, inside: Nats, report: Report) -> None:
    async with await made.operator() as operator:
        audit = await operator.audit()
    report.breaches += [f"audit: {check.name}: {check.detail}" for check in audit.checks if not check.holds]
    report.breaches += spools_are_empty(made.directory / "nodes")
    database = await made.database()
    found = await collect(inside, database)
    report.breaches += await breaches(found)
    report.events = len(found.events)
    report.bookings = await database.fetchval("SELECT count(*) FROM scheduler.bookings")
    await database.close()


async def repeat_everything(faults: Faults, inside: Nats) -> None:
    """Every event once more: whoever has had it must know."""
    state = (await streams.info(inside, EVENTS.name))["state"]
    await faults.repeat_events(state["first_seq"], state["last_seq"])


def chosen_seed() -> int:
    return int(os.environ.get("BIVOUAC_DRILL_SEED") or random.SystemRandom().randrange(2**32))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
async def test_nothing_is_lost_or_doubled_whatever_is_killed(tmp_path: Path) -> None:
    report = await drill(tmp_path, chosen_seed(), SECONDS, _SETTLE_SECONDS)
    print(report)
    assert not report.breaches, report
    assert report.outcomes["settled"] > 0, report


@pytest.mark.slow
async def test_the_same_drill_without_the_inbox_doubles_effects(tmp_path: Path) -> None:
    """So the drill above is able to fail, and it is the inbox that makes it pass."""
    report = await drill(tmp_path, chosen_seed(), SECONDS / 4, _SETTLE_SECONDS / 10, inbox="off")
    print(report)
    assert [breach for breach in report.breaches if breach.startswith("doubled: ") and "weighed" in breach], report
