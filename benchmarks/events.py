"""Figure `events`: what passes from an outbox through a stream into an inbox and its effect, each step synced to disk.

Two services, each a process of its own, on the bus as every service uses it: one says events in its transactions, the
other has an effect for each. Then the same two once more with one event a transaction and one publish at a time.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from benchmarks import harness
from libs import nkey, process
from libs.bus import ask, relay, serve
from libs.bus.reach import Reach
from libs.bus.rows import Rows as BusRows
from libs.bus.service import Service
from libs.ids import new_id
from libs.local.nats import NkeyUser
from libs.local.servers import LocalServers
from libs.settings import BusSettings, load
from wire.message import Event
from wire.node import NodeWithdrawn

GOAL = 8.0
BATCHED, SINGLE = 20_000, 1_500
ROUNDS = 3
NODE = "U" + "A" * 55


class Rows(BusRows):
    async def count(self, key: str) -> None:
        await self.connection.execute("INSERT INTO effects (key) VALUES ($1)", key)


async def count(event: NodeWithdrawn, rows: Rows) -> None:
    await rows.count(event.id)


def teller(events: int, at_once: int) -> Service:
    """Says `events` events, `at_once` in a transaction, as soon as it is told to begin."""

    async def say(reach: Reach) -> None:
        await begin(reach)
        for start in range(0, events, at_once):

            async def work(rows: BusRows, start: int = start) -> None:
                rows.say(*(an_event() for _ in range(start, min(start + at_once, events))))

            await reach.transact(new_id("say"), work)
        await asyncio.Event().wait()

    return Service(name="teller", migrations="benchmarks.events_tables", rows=Rows, background=[say])


async def begin(reach: Reach) -> None:
    go = asyncio.Event()

    async def told(_message: object) -> None:
        go.set()

    await reach.nats.subscribe("benchmark.begin", cb=told)
    await go.wait()


def an_event() -> Event:
    return NodeWithdrawn(node_id=NODE)


def listener() -> Service:
    return Service(name="listener", migrations="benchmarks.events_tables", rows=Rows, handles={NodeWithdrawn: count})


async def chain(servers: LocalServers, seeds: dict[str, Path], events: int, at_once: int, log: Path) -> float:
    """Events a second, from the first transaction that says one to the last effect."""
    children = []
    for role in ("listener", "teller"):
        environment = {
            "BIVOUAC_NATS_URL": servers.addresses.nats,
            "BIVOUAC_NATS_SEED_FILE": str(seeds[role]),
            "BIVOUAC_DATABASE_URL": servers.addresses.schemas[role],
            "BIVOUAC_GROUP_SIZE": str(at_once),
        }
        argv = [sys.executable, "-m", "benchmarks.events", role, str(events), str(at_once)]
        own = {**os.environ, **environment}
        children.append(process.start(argv, log=log, cwd=harness.ROOT, env=own))
    admin = await asyncpg.connect(servers.addresses.postgres_admin)
    client = await ask.connect(servers.addresses.nats, name="operator", seed_file=str(seeds["operator"]))
    try:
        await until_serving(log, len(children))
        before = await admin.fetchval("SELECT count(*) FROM listener.effects")
        started = time.perf_counter()
        await client.publish("benchmark.begin", b"")
        while await admin.fetchval("SELECT count(*) FROM listener.effects") < before + events:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        seconds = time.perf_counter() - started
        doubled = await admin.fetchval("SELECT count(*) - count(DISTINCT key) FROM listener.effects")
        assert doubled == 0
        return events / seconds
    finally:
        await admin.close()
        await client.close()
        for child in children:
            await child.stop()
        log.unlink()


async def until_serving(log: Path, services: int) -> None:
    async with asyncio.timeout(30):
        while log.read_text().count('"serving"') < services:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)  # the background tasks subscribe


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        seeds = {role: directory / role for role in ("teller", "listener", "operator")}
        users = [NkeyUser(nkey.make(path).public_key) for path in seeds.values()]
        async with LocalServers(directory / "servers", users=users, schemas=["teller", "listener"]) as servers:
            log = directory / "services.log"
            found: dict[str, list[float]] = {"batched": [], "one by one": []}
            for _ in range(ROUNDS):  # in turns, so that the machine's noise falls on both
                found["one by one"].append(await chain(servers, seeds, SINGLE, 1, log))
                found["batched"].append(await chain(servers, seeds, BATCHED, 256, log))
    rows = [(way, *(f"{min(rates):,.0f}–{max(rates):,.0f}",), statistics.median(rates)) for way, rates in found.items()]
    harness.table(["outbox → stream → inbox effect", "events/s, spread", "median"], rows)
    batched, single = (statistics.median(found[way]) for way in ("batched", "one by one"))
    harness.conclude(
        "events",
        batched / single,
        "times",
        f"{batched:,.0f} events/s in groups against {single:,.0f} one by one, synced to disk at every step",
        f"≥ {GOAL:g}",
        holds=batched / single >= GOAL,
    )


if __name__ == "__main__":
    if len(sys.argv) == 4:
        role, events, at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
        if at_once == 1:
            relay.GROUP_MAX = 1  # one publish at a time
        serve.run(teller(events, at_once) if role == "teller" else listener(), load(BusSettings))
    harness.run(main)
