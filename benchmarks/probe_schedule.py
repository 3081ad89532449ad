"""probe_schedule: the test jobs of 100,000 nodes, held in PostgreSQL and fired by one process, each at its own moment.

The prober's own rows and statements, time running as it does: claim what is due, draw each node's next time, commit.
Lateness is from the moment a test was drawn for to the commit of its claim. The gaps between a node's draws must be
exponential: a Kolmogorov-Smirnov test of the waits that were drawn, in units of their mean.
"""

import argparse
import asyncio
import math
import random
import secrets
import tempfile
import time
from pathlib import Path

import asyncpg

from benchmarks.harness import conclude, run, table
from libs import nkey
from libs.clock import now_ms
from libs.local.nats import NkeyUser
from libs.local.servers import LocalServers
from libs.postgres import migrate
from services.prober.domain.cadence import next_test_at
from services.prober.store import Rows

CLAIMED_AT_ONCE = 256
IDLE_SECONDS = 0.1
KS_FIVE_PERCENT = 1.358


def ks_distance(waits: list[float]) -> float:
    """Largest distance between the waits' distribution and the exponential of mean 1."""
    ordered, count = sorted(waits), len(waits)
    return max(
        max((place + 1) / count - (1 - math.exp(-wait)), (1 - math.exp(-wait)) - place / count)
        for place, wait in enumerate(ordered)
    )


async def fill(connection: asyncpg.Connection, nodes: int, mean: float, chance: random.Random) -> dict[str, int]:
    """The schedule as it stands in the middle of a day: node → when its next test is due."""
    now = now_ms()
    due = {f"U{number:055d}": next_test_at(now, mean, False, chance.random()) for number in range(nodes)}
    await connection.execute(
        """
        INSERT INTO schedule (node_id, next_at, passed)
        SELECT node, at, 1 FROM unnest($1::text[], $2::bigint[]) t(node, at)
        """,
        list(due),
        list(due.values()),
    )
    await connection.execute("ANALYZE schedule")
    return due


async def fire(
    connection: asyncpg.Connection, due: dict[str, int], mean: float, seconds: float
) -> tuple[list[float], list[float]]:
    """Lateness in ms of every test that came due, and the waits that were drawn, in means."""
    chance, late, waits = secrets.SystemRandom(), list[float](), list[float]()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        rows = Rows(connection, now_ms(), "")
        async with connection.transaction():
            claimed = await rows.due(CLAIMED_AT_ONCE)
            drawn = {node: next_test_at(rows.now, mean, suspect, chance.random()) for node, suspect in claimed}
            for node, at in drawn.items():
                await rows.draw(node, at)
        fired = now_ms()
        late += [fired - due[node] for node in drawn]
        waits += [(at - rows.now) / mean / 1000 for at in drawn.values()]
        due.update(drawn)
        if not claimed:
            await asyncio.sleep(IDLE_SECONDS)
    return late, waits


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--mean", type=float, default=600.0, help="seconds between two tests of a node")
    parser.add_argument("--seconds", type=float, default=20.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        key = nkey.make(Path(directory) / "prober.seed")
        users = [NkeyUser(key.public_key)]
        async with LocalServers(Path(directory) / "servers", users=users, schemas=["prober"]) as servers:
            url = servers.addresses.schemas["prober"]
            await migrate(url, ["libs.bus", "services.prober"])
            connection = await asyncpg.connect(url)
            due = await fill(connection, asked.nodes, asked.mean, random.Random(1))
            late, waits = await fire(connection, due, asked.mean, asked.seconds)
            await connection.close()
    late.sort()
    p99, distance = late[len(late) * 99 // 100], ks_distance(waits)
    limit = KS_FIVE_PERCENT / math.sqrt(len(waits))
    table(
        ("nodes", "fired", "tests/s", "late p50 ms", "p99 ms", "max ms", "KS distance", "5 % limit"),
        [
            (
                asked.nodes,
                len(late),
                len(late) / asked.seconds,
                late[len(late) // 2],
                p99,
                late[-1],
                f"{distance:.4f}",
                f"{limit:.4f}",
            )
        ],
    )
    fired = f"{asked.nodes:,} nodes, {len(late) / asked.seconds:.0f} tests/s by one process"
    against = f"{fired}; KS {distance:.4f}, limit {limit:.4f}"
    conclude(
        "probe_schedule",
        p99,
        "ms late (p99)",
        against,
        "≤ 1,000 and exponential",
        holds=p99 <= 1000 and distance <= limit,
    )


if __name__ == "__main__":
    run(main)
