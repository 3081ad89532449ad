"""Figure `quote`: how soon pricing has a quote, and how many a second, with 100,000 nodes in its pool.

The service runs here, its servers and the partners that ask are other processes. "Inside the service" is the answer
itself: the view of pool and market (read anew every two seconds), every line of the price, the quote kept in Valkey.
"A core" is this process's processor time, decoding, the transaction the bus opens for a query and sending included.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks import harness
from libs import nkey, process
from libs.bus import ask, serve
from libs.bus.service import Service
from libs.clock import now_ms
from libs.local.nats import NkeyUser
from libs.local.servers import LocalServers
from services.pricing.__main__ import service
from services.pricing.domain.base import CATALOGUE
from services.pricing.domain.quote import Terms, quote
from services.pricing.domain.standing import Standing
from services.pricing.settings import Settings
from wire.message import encode
from wire.quote import GetQuote, QuoteGiven
from wire.values import BandwidthTier, ClusterRequest

GOAL_RATE, GOAL_MS = 3000, 2.0
NODES, QUOTES, ROUNDS, AT_ONCE = 100_000, 4000, 3, 4
CONTROL = "benchmark.ask"
MODELS = sorted(set(CATALOGUE) - {"CPU"})


def requests() -> list[ClusterRequest]:
    return [
        ClusterRequest(
            nodes=1 + number % 50,
            model=model,
            duration_seconds=3600 * (1 + number % 24),
            bandwidth_tier=tier,
            country="US",
        )
        for number, model in enumerate(MODELS)
        for tier in (BandwidthTier.low_1, BandwidthTier.high_1)
    ]


async def flood() -> None:
    """The other process: partners who ask, AT_ONCE at a time, each for the next answer only when he has one."""
    client = await ask.connect(os.environ["NATS_URL"], name="flood", seed_file=os.environ["SEED_FILE"])
    wanted = requests()
    bodies = [encode(GetQuote(id=f"q{n}", at=1, partner="acme", request=one)) for n, one in enumerate(wanted)]
    subject = GetQuote.pattern(partner="acme")
    begin = await client.subscribe(CONTROL)
    await client.publish(f"{CONTROL}.ready")

    async def partner(number: int) -> None:
        for turn in range(QUOTES // AT_ONCE):
            answer = await client.request(subject, bodies[(number + turn) % len(bodies)], timeout=10)
            assert QuoteGiven.__name__.encode() in answer.data[:40], answer.data

    while True:
        message = await begin.next_msg(timeout=None)
        await asyncio.gather(*(partner(number) for number in range(AT_ONCE)))
        await message.respond(b"")


async def fill(admin_url: str) -> None:
    """The pool: every model alike, six of ten leased, one in ten with an ask of its own; and a market."""
    admin = await asyncpg.connect(admin_url)
    try:
        await admin.execute(
            """
            INSERT INTO pricing.pool (node_id, model, present, ask_micros, at)
            SELECT 'U' || n, ($1::text[])[1 + n % $2], true, CASE WHEN n % 10 = 0 THEN 50000 + n ELSE 0 END, 1
            FROM generate_series(1, $3) AS n
            """,
            MODELS,
            len(MODELS),
            NODES,
        )
        await admin.execute(
            "INSERT INTO pricing.occupancy SELECT 'U' || n, 1, n % 10 < 6, 1 FROM generate_series(1, $1::int) AS n",
            NODES,
        )
        await admin.execute(
            """
            INSERT INTO pricing.market_rate
            SELECT 'p' || n, 'source', model, 'ultra', 300000 + n, $2, 0, 0
            FROM unnest($1::text[]) AS model, generate_series(1, 8) AS n
            """,
            MODELS,
            now_ms(),
        )
        await admin.execute("ANALYZE pricing.pool; ANALYZE pricing.occupancy")
    finally:
        await admin.close()


def timed(priced: Service, seconds: list[float]) -> Service:
    answer = priced.answers[GetQuote]

    async def timing(asked: GetQuote, rows: Any) -> Any:
        started = time.perf_counter()
        said = await answer(asked, rows)
        seconds.append(time.perf_counter() - started)
        return said

    return dataclasses.replace(priced, answers={**priced.answers, GetQuote: timing})


async def alone(priced: Service, url: str) -> float:
    """Answers a second of processor time, without the bus: on one transaction, one partner after the other."""
    connection = await asyncpg.connect(url)
    wanted = requests()
    try:
        best = 0.0
        for _ in range(ROUNDS):
            started = time.process_time()
            for number in range(QUOTES):
                rows = priced.rows(connection, now_ms(), "q")
                asked = GetQuote(id="q", at=1, partner="acme", request=wanted[number % len(wanted)])
                encode(await priced.answers[GetQuote](asked, rows))
            best = max(best, QUOTES / (time.process_time() - started))
        return best
    finally:
        await connection.close()


Rounds = tuple[list[float], list[float], list[float], float]


async def rounds(settings: Settings, admin_url: str, control: Any) -> Rounds:
    """(seconds inside, quotes a second of a core, quotes a second by the clock, answers a second of a core alone)."""
    seconds: list[float] = []
    rates, walls = [], []
    started, stop = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(serve.serve(timed(service(settings), seconds), settings, stop=stop, started=started))
    await started.wait()
    await fill(admin_url)
    for number in range(ROUNDS + 1):
        cpu, wall = time.process_time(), time.perf_counter()
        await control.request(CONTROL, b"", timeout=120)
        if number:  # the first warms up
            rates.append(QUOTES / (time.process_time() - cpu))
            walls.append(QUOTES / (time.perf_counter() - wall))
        else:
            seconds.clear()
    bare = await alone(service(settings), settings.database_url)
    stop.set()
    await serving
    return seconds, rates, walls, bare


def decided() -> float:
    """Decisions alone, a second of processor time."""
    wanted, stand = requests(), Standing(total=2600, used=1600)
    started = time.process_time()
    for number in range(5000):
        quote(wanted[number % len(wanted)], Terms("q", 1_764_000_000_000, 300_000, stand))
    return 5000 / (time.process_time() - started)


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        seeds = {role: directory / role for role in ("pricing", "flood", "control")}
        users = [NkeyUser(nkey.make(path).public_key) for path in seeds.values()]
        async with LocalServers(directory / "servers", users=users, schemas=["pricing"]) as servers:
            at = servers.addresses
            settings = Settings(
                nats_url=at.nats,
                nats_seed_file=str(seeds["pricing"]),
                database_url=at.schemas["pricing"],
                valkey_url=at.valkey,
                log_level="warning",
            )
            control = await ask.connect(at.nats, name="control", seed_file=str(seeds["control"]))
            ready = await control.subscribe(f"{CONTROL}.ready")
            environment = {**os.environ, "NATS_URL": at.nats, "SEED_FILE": str(seeds["flood"])}
            argv = [sys.executable, "-m", "benchmarks.quote", "flood"]
            child = process.start(argv, log=directory / "flood.log", cwd=harness.ROOT, env=environment)
            try:
                await ready.next_msg(timeout=20)
                found = await rounds(settings, at.postgres_admin, control)
            finally:
                await control.close()
                await child.stop()
    report(*found)


def report(seconds: list[float], rates: list[float], walls: list[float], inside: float) -> None:
    cuts = statistics.quantiles(seconds, n=1000)
    p50, p99 = cuts[499] * 1000, cuts[989] * 1000
    harness.table(
        ["what", "value", "unit"],
        [
            ("inside the service, p50", p50, "ms"),
            ("inside the service, p99", p99, "ms"),
            ("the decision alone", decided(), "quotes a second of a core"),
            ("inside the service, with Valkey and encoding", inside, "quotes a second of a core"),
            ("through the bus, best round", max(rates), "quotes a second of a core"),
            ("through the bus, by the clock", max(walls), f"quotes a second, {AT_ONCE} partners"),
        ],
    )
    harness.conclude(
        "quote",
        p99,
        "ms, p99 inside the service",
        f"{inside:,.0f} quotes a second of one core inside the service, {max(rates):,.0f} through the bus, "
        f"at {NODES:,} nodes; load of the machine {os.getloadavg()[0]:.1f}",
        f"≤ {GOAL_MS:g} ms and ≥ {GOAL_RATE:,}/s of one core",
        holds=p99 <= GOAL_MS and inside >= GOAL_RATE,
    )


if __name__ == "__main__":
    harness.run(flood if sys.argv[1:] == ["flood"] else main)
