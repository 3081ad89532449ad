"""The prober on the real bus: who is tested and when, and what becomes of right, wrong, hostile and absent answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs import proofs
from services.node_agent.probes import ProbeWorker
from services.prober.__main__ import service
from services.prober.proving import decoded
from services.prober.settings import Settings
from tests.conftest import Running, until
from tests.scheduler import builders
from wire.message import encode
from wire.node import NodeAdmitted, NodeLost, NodeWithdrawn
from wire.probe import PAYLOAD_BYTES_MAX, Probe, ProbeAnswer, ProbeFailed, ProbePassed, ProbeUnmeasurable
from wire.values import Reason

NODE, OTHER = builders.node_id(1), builders.node_id(2)
SMALL = {
    "probe_product_order": 256,
    "probe_chain_links": 2000,
    "probe_memory_mb": 4,
    "probe_payload_bytes": 20_000,
    "probe_answer_seconds": 5.0,
}
Answerer = Callable[[Probe], Awaitable[bytes | None]]
Prober = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def prober(running_service: Any, settings: Any) -> Prober:
    @asynccontextmanager
    async def run(own: Settings | None = None, **more: Any) -> AsyncIterator[Running]:
        own = own or await settings("prober", Settings, **{**SMALL, **more})
        assert own is not None
        async with running_service(service(own), own) as running:
            yield running

    return run


@pytest_asyncio.fixture(loop_scope="session")
async def worker() -> AsyncIterator[ProbeWorker]:
    """The node's own, with its child process."""
    worker = ProbeWorker()
    yield worker
    worker.stop()


@asynccontextmanager
async def node(client: Client, answer: Answerer, node_id: str = NODE) -> AsyncIterator[list[Probe]]:
    """Somebody who hears that node's questions; yields what was asked."""
    asked: list[Probe] = []

    async def hear(message: Msg) -> None:
        asked.append(msgspec.json.decode(message.data, type=Probe))
        said = await answer(asked[-1])
        if said is not None:
            await message.respond(said)

    subscription = await client.subscribe(Probe.pattern(node_id=node_id), cb=hear)
    await client.flush()
    try:
        yield asked
    finally:
        await subscription.unsubscribe()


def honest(worker: ProbeWorker) -> Answerer:
    async def answer(query: Probe) -> bytes:
        return await worker.answer(query.subject(), encode(query))

    return answer


def admitted(node_id: str = NODE) -> NodeAdmitted:
    return NodeAdmitted(node_id=node_id, spec=builders.spec(gpus=0))


async def test_a_node_is_tested_as_soon_as_it_is_admitted(
    prober: Prober, worker: ProbeWorker, nats_client: Client
) -> None:
    async with prober() as running, node(nats_client, honest(worker)) as asked:
        await running.publish(admitted())
        passed = await running.heard(ProbePassed, node_id=NODE, timeout=20)
    readings = passed.readings
    assert readings.memory_mb == SMALL["probe_memory_mb"]
    assert 0 < readings.gflops < 10**6 and 10 < readings.cpu_mhz < 10**5 and 100 < readings.bandwidth_kb_s < 10**8
    assert passed.score_millionths >= 0
    assert {query.kind for query in asked} == {"echo", "product", "clock", "memory", "bandwidth"}
    assert {query.probe_id for query in asked} == {passed.probe_id}


async def test_a_liar_is_told_with_all_that_shows_it(prober: Prober, worker: ProbeWorker, nats_client: Client) -> None:
    """Whoever reads the event can make the right answer from the seed himself."""
    right = honest(worker)

    async def lie(query: Probe) -> bytes | None:
        if query.kind == "product":
            return encode(ProbeAnswer(probe_id=query.probe_id, kind=query.kind, digest="f" * 64))
        return await right(query)

    async with prober() as running, node(nats_client, lie) as asked:
        await running.publish(admitted())
        failed = await running.heard(ProbeFailed, node_id=NODE, timeout=20)
    assert (failed.kind, failed.reason, failed.answered) == ("product", Reason.wrong_answer, "f" * 64)
    assert failed.expected == proofs.product_digest(failed.seed, int(SMALL["probe_product_order"]))
    assert asked[-1].seed == failed.seed and asked[-1].kind == "product", "nothing more is asked of a liar"


async def test_silence_fails_when_its_time_is_over(prober: Prober, nats_client: Client) -> None:
    async def nothing(query: Probe) -> bytes | None:
        return None

    async with prober(probe_answer_seconds=0.4) as running, node(nats_client, nothing) as asked:
        await running.publish(admitted())
        failed = await running.heard(ProbeFailed, node_id=NODE)
    assert (failed.reason, failed.kind, len(asked)) == (Reason.no_answer, "echo", 1)
    assert 400 <= failed.elapsed_ms < 5000


async def test_a_node_that_cannot_be_asked_is_neither_praised_nor_blamed(
    prober: Prober, database: Callable[[str], Awaitable[str]]
) -> None:
    async with prober() as running:
        await running.publish(admitted())
        assert (await running.heard(ProbeUnmeasurable, node_id=NODE)).detail
        assert not [*running.all_heard(ProbeFailed), *running.all_heard(ProbePassed)]
        assert [(row["passed"], row["failed"]) for row in await schedule(await database("prober"))] == [(0, 0)]


HOSTILE: dict[str, Callable[[Probe], bytes]] = {
    "nothing": lambda query: b"",
    "no UTF-8": lambda query: b"\xff\xfe",
    "lists in lists": lambda query: b"[" * 100_000,
    "null": lambda query: b"null",
    "another type": lambda query: b'{"type": "Refused", "refusal": {"reason": "banned"}}',
    "another test job": lambda query: said(query, probe_id="prb_another", digest=query.seed),
    "another question": lambda query: said(query, kind="clock", digest=query.seed),
    "a number": lambda query: said(query, digest=1e308),
    "a null character as digest": lambda query: said(query, digest="\0"),
    "half a pair of surrogates": lambda query: said(query, digest="@").replace(b"@", b"\\ud800"),
    "a digest of a million letters": lambda query: said(query, digest="f" * 900_000),
    "a payload beyond all bounds": lambda query: said(query, payload="f" * (2 * PAYLOAD_BYTES_MAX - 5000)),
    "a payload of null characters": lambda query: said(query, payload="\0" * 50_000),
    "an excuse with a null character": lambda query: said(query, declined="busy\0"),
    "an excuse that moves the cursor": lambda query: said(query, declined="\x1b[2J" * 100),
    "an excuse of a million letters": lambda query: said(query, declined="x" * 900_000),
}


def said(query: Probe, **changes: Any) -> bytes:
    return json.dumps({"type": "ProbeAnswer", "probe_id": query.probe_id, "kind": query.kind, **changes}).encode()


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_answer_fails_its_node_and_nobody_else(
    name: str, prober: Prober, worker: ProbeWorker, nats_client: Client
) -> None:
    async def answer(query: Probe) -> bytes | None:
        return HOSTILE[name](query)

    async with prober() as running, node(nats_client, answer), node(nats_client, honest(worker), OTHER):
        await running.publish(admitted())
        failed = await running.heard(ProbeFailed, node_id=NODE)
        assert failed.reason in (Reason.wrong_answer, Reason.no_answer)
        await running.publish(admitted(OTHER))
        await running.heard(ProbePassed, node_id=OTHER)
        assert len(list(running.all_heard(ProbeFailed))) == 1


async def schedule(url: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch("SELECT * FROM schedule ORDER BY node_id"))
    finally:
        await connection.close()


async def test_a_restart_is_no_way_to_skip_a_test_nor_to_get_another(
    prober: Prober, worker: ProbeWorker, nats_client: Client, database: Callable[[str], Awaitable[str]]
) -> None:
    async with node(nats_client, honest(worker)) as asked:
        async with prober(probe_interval_seconds=86_400.0) as running:
            await running.publish(admitted())
            await running.heard(ProbePassed, node_id=NODE, timeout=20)
            own = running.settings
        drawn = await schedule(await database("prober"))
        count = len(asked)
        async with prober(own):
            await asyncio.sleep(1.5)
        assert await schedule(await database("prober")) == drawn and len(asked) == count
        connection = await asyncpg.connect(await database("prober"))
        await connection.execute("UPDATE schedule SET next_at = 1")  # its time came while nobody was there
        await connection.close()
        async with prober(own) as running:
            await running.heard(ProbePassed, node_id=NODE, timeout=20)


@pytest.mark.parametrize("gone", [NodeLost(node_id=NODE, reason="silent", last_seen_at=1), NodeWithdrawn(node_id=NODE)])
async def test_who_is_gone_is_not_tested_until_he_is_back(
    gone: NodeLost | NodeWithdrawn, prober: Prober, worker: ProbeWorker, nats_client: Client
) -> None:
    async with prober(probe_interval_seconds=0.1) as running, node(nats_client, honest(worker)) as asked:

        async def again() -> None:
            count = len(asked)
            await until(lambda: more_than(asked, count + 14))

        await running.publish(admitted())
        await again()
        await running.publish(gone)
        await asyncio.sleep(1.5)
        count = len(asked)
        await asyncio.sleep(2.0)
        assert len(asked) == count
        await running.publish(admitted())
        await again()


async def more_than(asked: list[Probe], count: int) -> bool:
    return len(asked) > count


def test_a_null_character_makes_no_proof_either() -> None:
    """It could stand in no event, and so a node that says it would never be told to have failed."""
    for text in ('"declined": "busy\\u0000"', '"root": "\\u0000"'):
        assert decoded(f'{{"type": "ProveGpuAnswer", "probe_id": "p", "stage": "commit", {text}}}'.encode()) is None
