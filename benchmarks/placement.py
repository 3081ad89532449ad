"""Figures `placement` and `placement_rows`: gangs planned on the scheduler's fleet in columns.

Asked is for 500 GPUs with five constraints besides the model's name (GPUs a node, bandwidth tier, country, VRAM,
reputation), ranked by reputation, price and rotation; every answer is leased before the next question and freed after
a few more, so that no two find the same fleet. PostgreSQL is asked the same, prepared, and its answers are compared
node by node: once on a covering index over the labels, which serves any question, and once on an index in the very
order of this one, which serves no other. The planner's times are of the processor, since other work on the machine
does not count; those beside PostgreSQL's are of the wall, for both. Each is the best of several rounds.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import asyncpg
import psutil  # type: ignore[import-untyped]

from benchmarks import harness
from benchmarks.fleets.market import COUNTRIES, MODELS, market
from libs import nkey
from libs.local.nats import NkeyUser
from libs.local.servers import LocalServers
from services.scheduler.domain.columns import Fleet, Plan
from services.scheduler.domain.gang import Planner, Wish

SIZES = {100_000: 0.5, 1_000_000: 1.0}  # nodes: the p99 to reach, in ms
FASTER, NODE_BYTES = 25.0, 1024
ROUNDS, QUESTIONS, ROWS_QUESTIONS, IN_FLIGHT = 7, 300, 100, 4
TABLE = """
    CREATE TABLE nodes (node_id text COLLATE "C", model text, gpus int, tier int, country text, vram_mb int,
        reputation_millis int, ask bigint, last_leased_at bigint, free boolean)
"""
INDEXES = {
    "labels": """CREATE INDEX {} ON nodes (model, country, tier, gpus)
        INCLUDE (vram_mb, reputation_millis, ask, last_leased_at, node_id) WHERE free""",
    "order": """CREATE INDEX {} ON nodes (model, country, reputation_millis DESC, ask, gpus, last_leased_at, node_id)
        INCLUDE (tier, vram_mb) WHERE free""",
}
QUESTION = """
    SELECT node_id FROM nodes WHERE free AND model = $1 AND gpus >= $2 AND tier >= $3 AND country = $4
        AND vram_mb >= $5 AND reputation_millis >= $6
    ORDER BY reputation_millis DESC, ask, gpus, last_leased_at, node_id LIMIT $7
"""


def large(random: Random) -> Wish:
    """500 GPUs, in nodes of four or more."""
    model = random.choice(list(MODELS)[:3])
    return Wish(
        models=(model,),
        nodes=125,
        gpus_min=4,
        tier_min=random.randrange(4),
        country=random.choice(COUNTRIES[:2]),
        vram_mb_min=MODELS[model] // 2,
        reputation_millis_min=random.choice((500, 600, 700)),
    )


def scattered(random: Random) -> Wish:
    """500 GPUs, in 500 nodes: the dearest way to ask for them."""
    del random
    return Wish(models=("GPU 0",), nodes=500, tier_min=2, country="US", vram_mb_min=16_384, reputation_millis_min=500)


class Round(NamedTuple):
    """Milliseconds a plan, and the share of the questions that had an answer."""

    median: float
    p99: float
    placed: float


class Both(NamedTuple):
    """Milliseconds for the same questions."""

    planner: float
    rows: float

    @property
    def times(self) -> float:
        return self.rows / self.planner


def ask_planner(fleet: Fleet, kind: Callable[[Random], Wish], seed: int) -> Round:
    random, planner = Random(seed), Planner(fleet)
    wishes = [kind(random) for _ in range(QUESTIONS)]
    for wish in wishes:  # what a planner remembers of labels it remembers for days
        planner.plan(wish)
    held: deque[Plan] = deque()
    times, placed = [], 0
    for now, wish in enumerate(wishes):
        started = time.process_time()
        plan = planner.plan(wish)
        times.append((time.process_time() - started) * 1000)
        if plan is not None:
            placed += 1
            fleet.lease(plan, now)
            held.append(plan)
        if len(held) > IN_FLIGHT:
            fleet.free(held.popleft().node_ids)
    for plan in held:
        fleet.free(plan.node_ids)
    return Round(statistics.median(times), statistics.quantiles(times, n=100)[98], placed / QUESTIONS)


class Rows:
    """The same market in PostgreSQL, with one index at a time."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def fill(self, nodes: int) -> None:
        await self._connection.execute("DROP TABLE IF EXISTS nodes")
        await self._connection.execute(TABLE)
        rows = (
            (
                one.node_id,
                one.model,
                one.gpus,
                one.tier,
                one.country,
                one.vram_mb,
                one.reputation_millis,
                one.ask,
                0,
                True,
            )
            for one in market(nodes)
        )
        await self._connection.copy_records_to_table("nodes", records=rows)

    async def ask(self, index: str, fleet: Fleet, wishes: list[Wish]) -> Both:
        """Median milliseconds of the best round, of the planner and of PostgreSQL; their answers must be the same."""
        await self._connection.execute(INDEXES[index].format(f"nodes_{index}"))
        await self._connection.execute("VACUUM ANALYZE nodes")
        question, planner = await self._connection.prepare(QUESTION), Planner(fleet)
        planned, queried = [], []
        for _ in range(ROUNDS):
            ours, theirs, plans = [], [], []
            for wish in wishes:
                started = time.perf_counter()
                plans.append(planner.plan(wish))
                ours.append((time.perf_counter() - started) * 1000)
            for wish, plan in zip(wishes, plans, strict=True):
                asked = (wish.gpus_min, wish.tier_min, wish.country, wish.vram_mb_min, wish.reputation_millis_min)
                started = time.perf_counter()
                answer = await question.fetch(wish.models[0], *asked, wish.nodes)
                theirs.append((time.perf_counter() - started) * 1000)
                found = tuple(row["node_id"] for row in answer)
                assert (plan.node_ids if plan else ()) == (found if len(found) == wish.nodes else ())
            planned.append(statistics.median(ours))
            queried.append(statistics.median(theirs))
        await self._connection.execute(f"DROP INDEX nodes_{index}")
        return Both(min(planned), min(queried))


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(psutil.Process().memory_info().rss)


class Found(NamedTuple):
    """What was measured at one size of the fleet."""

    node_bytes: float
    labels: Both
    order: Both
    rounds: list[Round]
    scattered: list[Round]

    @property
    def p99(self) -> float:
        return min(one.p99 for one in self.rounds)


async def measure(url: str, nodes: int) -> Found:
    gc.collect()
    before = resident()
    fleet = Fleet(market(nodes))
    gc.collect()
    node_bytes = (resident() - before) / nodes
    gc.freeze()  # a collection would look at every node for garbage that is not there
    connection = await asyncpg.connect(url)
    rows, random = Rows(connection), Random(nodes)
    await rows.fill(nodes)
    wishes = [large(random) for _ in range(ROWS_QUESTIONS)]
    both = [await rows.ask(index, fleet, wishes) for index in INDEXES]
    await connection.close()
    rounds = [ask_planner(fleet, large, seed) for seed in range(ROUNDS)]
    dearest = [ask_planner(fleet, scattered, seed) for seed in range(ROUNDS)]
    return Found(node_bytes, both[0], both[1], rounds, dearest)


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        user = NkeyUser(nkey.make(Path(name) / "user").public_key)
        async with LocalServers(Path(name) / "servers", users=[user], schemas=["scheduler"]) as servers:
            url = servers.addresses.schemas["scheduler"]
            found = {nodes: await measure(url, nodes) for nodes in SIZES}
    report(found)
    conclude(found)


def report(found: dict[int, Found]) -> None:
    harness.table(
        ["500 GPUs, 5 constraints", "median ms", "best p99", "worst p99", "placed"],
        [
            (f"{nodes:,} nodes, {words}", min(r.median for r in rounds), best, worst, rounds[0].placed)
            for nodes, one in found.items()
            for words, rounds in (("125 of 4+ GPUs", one.rounds), ("500 of 1+ GPUs", one.scattered))
            for best, worst in [(min(r.p99 for r in rounds), max(r.p99 for r in rounds))]
        ],
    )
    harness.table(
        ["the same question, median ms", "planner", "PostgreSQL", "times", "bytes a node"],
        [
            (f"{nodes:,} nodes, {words}", both.planner, both.rows, both.times, one.node_bytes)
            for nodes, one in found.items()
            for words, both in (("index of labels", one.labels), ("index in its order", one.order))
        ],
    )
    print(f"Each figure is the best of {ROUNDS} rounds: other work on the machine slows down the rest.")


def conclude(found: dict[int, Found]) -> None:
    small_fleet, big_fleet = found.values()
    heaviest = max(one.node_bytes for one in found.values())
    harness.conclude(
        "placement",
        big_fleet.p99,
        "ms, p99",
        f"{small_fleet.p99:.3f} ms out of 100,000 nodes; {heaviest:.0f} bytes a node",
        f"≤ 1 ms out of 1,000,000, ≤ 0.5 ms out of 100,000; ≤ {NODE_BYTES} bytes a node",
        holds=all(one.p99 <= SIZES[nodes] for nodes, one in found.items()) and heaviest <= NODE_BYTES,
    )
    faster = min(one.labels.times for one in found.values())
    harness.conclude(
        "placement_rows",
        faster,
        "times as fast as PostgreSQL",
        f"a covering index over the labels; {min(one.order.times for one in found.values()):.1f} times as fast as an "
        "index in the very order of this one question",
        f"≥ {FASTER:g}",
        holds=faster >= FASTER,
    )


if __name__ == "__main__":
    harness.run(main)
