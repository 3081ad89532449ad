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

from libs.bus.streams import ApiError
from tests.drills.evidence import collect, consumers
from tests.drills.faults import Faults
from tests.drills.load import Customer
from tests.drills.network import SCHEMAS, DrillNetwork, network
from tests.drills.verdict import breaches, spools_are_empty

SECONDS = float(os.environ.get("BIVOUAC_DRILL_SECONDS", "40"))
CUSTOMERS = {"acme": 3, "zenith": 3}
_SETTLE_SECONDS = 60.0


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
            f"{dict(self.faults)}, outcomes {dict(self.outcomes)}\n" + "\n".join(self.breaches)
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
        except (NatsError, ApiError, TimeoutError):
            quiet = 0
        await asyncio.sleep(0.5)


async def drill(directory: Path, seed: int, seconds: float, settle: float, **settings: str) -> Report:
    report, chance = Report(seed), random.Random(seed)
    async with network(directory / "net", **settings) as made:
        inside = await made.inside()
        customers = [
            Customer(f"{partner}{n}", await made.partner(partner), directory / "work", random.Random(chance.random()))
            for partner, count in CUSTOMERS.items()
            for n in range(count)
        ]
        faults = Faults(made, inside, chance)
        shopping = [asyncio.create_task(one.shop(time.monotonic() + seconds)) for one in customers]
        await asyncio.sleep(1.0)
        await faults.run(seconds)
        await asyncio.gather(*shopping)
        await asyncio.gather(*(one.finish() for one in customers))
        await made.retire("prober")  # which would never rest
        await come_to_rest(inside, made, settle)
        report.breaches = [*made.died, *(wrong for one in customers for wrong in one.wrong)]
        report.breaches += spools_are_empty(made.directory / "nodes")
        async with await made.operator() as operator:
            audit = await operator.audit()
        report.breaches += [f"audit: {check.name}: {check.detail}" for check in audit.checks if not check.holds]
        database = await made.database()
        found = await collect(inside, database)
        report.breaches += await breaches(found)
        report.events, report.faults = len(found.events), faults.done
        report.bookings = await database.fetchval("SELECT count(*) FROM scheduler.bookings")
        report.outcomes = sum((one.outcomes for one in customers), Counter())
        await database.close()
        for one in customers:
            await one.client.close()
        await inside.close()
    return report


def chosen_seed() -> int:
    return int(os.environ.get("BIVOUAC_DRILL_SEED") or random.SystemRandom().randrange(2**32))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
async def test_nothing_is_lost_or_doubled_whatever_is_killed(tmp_path: Path) -> None:
    report = await drill(tmp_path, chosen_seed(), SECONDS, _SETTLE_SECONDS)
    print(report)
    assert not report.breaches, report
    assert report.outcomes["settled"] > 0, report
