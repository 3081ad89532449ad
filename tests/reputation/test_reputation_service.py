"""Reputation on the real bus, its rows in PostgreSQL and its rank board in Valkey."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from libs import postgres
from libs.bus import ask
from libs.clock import now_ms
from libs.ids import new_id
from services.reputation import handlers
from services.reputation.__main__ import service
from services.reputation.domain.evidence import Evidence
from services.reputation.domain.score import Standing, absorbed, interval
from services.reputation.settings import DAY_MS, Settings
from services.reputation.store import Rows
from tests.conftest import Running
from wire.booking import LeaseEnded
from wire.message import encode
from wire.node import NodeAdmitted, NodeLost
from wire.probe import ProbeFailed, ProbePassed
from wire.quote import Refused
from wire.reputation import GetReputation, NodeScored, ReputationGiven
from wire.values import LeaseTerms, NodeSpec, PortBlock, ProbeReadings, Reason, usd

A, B, C = ("U" + "A" * 54 + last for last in "ABC")
READINGS = ProbeReadings(bandwidth_kb_s=1, memory_mb=1, cpu_mhz=1, gflops=1)
Reputation = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def reputation(running_service: Any, settings: Any) -> Reputation:
    @asynccontextmanager
    async def run(**more: Any) -> AsyncIterator[Running]:
        own = await settings("reputation", Settings, **{"board_seconds": 0.05, **more})
        async with running_service(service(own), own) as running:
            yield running

    return run


@pytest_asyncio.fixture(loop_scope="session")
async def valkey(servers: Any) -> AsyncIterator[Redis]:
    client = Redis.from_url(servers.addresses.valkey)
    await client.flushall()
    yield client
    await client.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def connection(database: Any) -> AsyncIterator[Any]:
    connected = await asyncpg.connect(await database("reputation"))
    yield connected
    await connected.close()


def admitted(node_id: str) -> NodeAdmitted:
    spec = NodeSpec(
        name="rig",
        manufacturer="NVIDIA",
        model="RTX 3090",
        gpus=1,
        vram_mb=24576,
        cpu_model="x",
        cpu_cores=8,
        cpu_mhz=3000,
        memory_mb=32768,
        ray_ports=PortBlock(first=20_000, count=100),
    )
    return NodeAdmitted(node_id=node_id, spec=spec)


def passed(node_id: str) -> ProbePassed:
    return ProbePassed(node_id=node_id, probe_id=new_id(), readings=READINGS, score_millionths=1)


def failed(node_id: str, reason: Reason) -> ProbeFailed:
    return ProbeFailed(node_id=node_id, probe_id=new_id(), kind="echo", reason=reason, detail="", seed="0" * 64)


def lease_ended(node_id: str, reason: str, hours: int) -> LeaseEnded:
    now = now_ms()
    return LeaseEnded(
        partner="acme",
        booking_id=new_id("bkg"),
        lease=LeaseTerms(lease_id=new_id("lea"), node_id=node_id, fence=1, hourly=usd(1)),
        started_at=now - hours * 3_600_000,
        ended_at=now,
        reason=reason,  # type: ignore[arg-type]
    )


async def asked(running: Running, node_id: str) -> ReputationGiven | Refused:
    either: Any = ReputationGiven | Refused
    answer: ReputationGiven | Refused = await ask.ask(
        running.client, GetReputation(identity="acme", node_id=node_id), either
    )
    return answer


async def known(running: Running, node_id: str, **expected: Any) -> ReputationGiven:
    """The node's reputation, once it is as expected."""
    async with asyncio.timeout(10):
        while True:
            answer = await asked(running, node_id)
            if isinstance(answer, ReputationGiven) and all(getattr(answer, k) == v for k, v in expected.items()):
                return answer
            await asyncio.sleep(0.02)


async def test_a_new_node_is_scored_and_every_move_is_told(reputation: Reputation, connection: Any) -> None:
    async with reputation() as running:
        await running.publish(admitted(A))
        first = await running.heard(NodeScored, node_id=A)
        assert (first.lower_millis, first.mean_millis, first.upper_millis) == (50, 500, 950)
        for _ in range(10):
            await running.publish(passed(A))
        trusted = await running.heard(NodeScored, node_id=A, lower_millis=761)
        assert trusted.because == "passed a test job"
        await running.publish(failed(A, Reason.wrong_answer))
        await running.publish(lease_ended(A, "released", 8))
        await running.publish(lease_ended(A, "node_lost", 1))
        await running.publish(NodeLost(node_id=A, reason="silent", last_seen_at=1))
        await running.publish(lease_ended(A, "node_left", 1))
        fallen = await known(running, A, lower_millis=interval_of(12, 31))
        assert fallen.lower_millis < 200
        moves = [(move.good_millis, move.bad_millis) for move in fallen.moves]
        assert sorted(moves) == sorted([(1000, 0)] * 10 + [(0, 20_000), (2000, 0), (0, 10_000), (0, 1000)])
        assert [move.at for move in fallen.moves] == sorted((move.at for move in fallen.moves), reverse=True)
        assert fallen.rank == 1
        assert await recomputed(connection, A) == (fallen.lower_millis, fallen.mean_millis, fallen.upper_millis)


def interval_of(good: int, bad: int) -> int:
    return interval(Standing(good * 10**9, bad * 10**9)).lower_millis


async def recomputed(connection: Any, node_id: str) -> tuple[int, int, int]:
    """The score from the evidence alone, as anyone may do it."""
    rows = await connection.fetch("SELECT * FROM evidence WHERE node_id = $1", node_id)
    standing = Standing()
    for row in rows:
        event = Evidence(row["at"], row["because"], row["good_millis"], row["bad_millis"])
        standing = absorbed(standing, event, 30 * DAY_MS)
    return msgspec.structs.astuple(interval(standing))


async def test_a_message_that_comes_twice_counts_once(reputation: Reputation, connection: Any) -> None:
    async with reputation() as running:
        sent = await running.publish(passed(A))
        for _ in range(3):
            await running.publish_raw(sent.subject(), encode(sent))  # without the broker's own deduplication
        await running.publish(passed(B))
        await known(running, B, lower_millis=interval_of(1, 0))
        assert await connection.fetchval("SELECT count(*) FROM evidence WHERE node_id = $1", A) == 1


async def test_evidence_is_never_changed(reputation: Reputation, connection: Any) -> None:
    async with reputation() as running:
        await running.publish(passed(A))
        await running.heard(NodeScored, node_id=A)
        for attempt in ("UPDATE evidence SET good_millis = 9", "DELETE FROM evidence", "TRUNCATE evidence"):
            with pytest.raises(asyncpg.RaiseError, match="append-only"):
                await connection.execute(attempt)


async def test_ranks_come_from_the_board_and_survive_its_loss(reputation: Reputation, valkey: Redis) -> None:
    async with reputation() as running:
        for node, passes in ((A, 3), (B, 1), (C, 3)):
            await running.publish(admitted(node))
            for _ in range(passes):
                await running.publish(passed(node))
        lower = {A: interval_of(3, 0), B: interval_of(1, 0), C: interval_of(3, 0)}
        ranks = {A: 1, B: 3, C: 1}
        await board_of(valkey, lower)
        for node in (A, B, C):
            await known(running, node, lower_millis=lower[node], rank=ranks[node])

        await valkey.flushall()
        answer = await asked(running, B)  # at once: counted in PostgreSQL until the board is whole
        assert isinstance(answer, ReputationGiven)
        assert answer.rank == 3
        await board_of(valkey, lower)

        await running.publish(failed(A, Reason.wrong_answer))
        await known(running, A, rank=3)
        await board_of(valkey, {**lower, A: interval_of(3, 20)})


async def board_of(valkey: Redis, expected: dict[str, int]) -> None:
    async with asyncio.timeout(10):
        while True:
            entries = cast("list[tuple[bytes, float]]", await valkey.zrange("reputation:board", 0, -1, withscores=True))
            found = {node.decode(): int(lower) for node, lower in entries}
            if found == {**expected, "whole": -1}:
                return
            await asyncio.sleep(0.02)


async def test_an_incomplete_board_is_not_believed(reputation: Reputation, valkey: Redis) -> None:
    async with reputation(board_seconds=600, board_rebuild_seconds=600) as running:
        await board_of(valkey, {})
        await running.publish(passed(A))
        await running.publish(passed(B))
        await running.publish(passed(B))
        await known(running, B, lower_millis=interval_of(2, 0))
        await valkey.delete("reputation:board")
        await valkey.zadd("reputation:board", {A: interval_of(1, 0)})
        await known(running, A, rank=2)


async def test_without_valkey_ranks_are_counted(reputation: Reputation) -> None:
    async with reputation(valkey_url="redis://127.0.0.1:9/0") as running:
        await running.publish(passed(A))
        await running.publish(passed(B))
        await running.publish(passed(B))
        await known(running, B, lower_millis=interval_of(2, 0), rank=1)
        await known(running, A, rank=2)


async def test_a_node_nobody_knows_is_refused(reputation: Reputation) -> None:
    async with reputation() as running:
        answer = await asked(running, C)
        assert isinstance(answer, Refused)
        assert answer.refusal.reason is Reason.unknown_node


async def test_scores_fade_while_nothing_happens(connection: Any, settings: Any) -> None:
    own = await settings("reputation", Settings)
    await postgres.migrate(own.database_url, ["services.reputation"])
    now = now_ms()

    def rows(at: int, cause: str) -> Rows:
        return Rows(connection, at, cause, own, None)

    for number in range(20):
        await handlers.weigh_pass(passed(A).stamped(f"p{number}", now), rows(now, f"p{number}"))
    early = rows(now + 3_599_000, "every/1")
    await handlers.fade(early)
    assert early.said == []
    later = rows(now + 30 * DAY_MS, "every/2")
    await handlers.fade(later)
    (said,) = later.said
    assert isinstance(said, NodeScored)
    assert said.lower_millis == interval_of(10, 0) < interval_of(20, 0)
    again = rows(later.now + 3_600_001, "every/3")
    await handlers.fade(again)
    assert again.said == [], "an hour of a month moves it by less than a thousandth"
