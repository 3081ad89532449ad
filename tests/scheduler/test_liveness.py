"""Real nodes on a real server: killed, frozen, frozen briefly, leaving, coming back, and through restarts of others."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from libs import nkey
from libs.bus import ask
from libs.clock import now_ms
from libs.local.servers import LocalServers
from services.scheduler.__main__ import service
from services.scheduler.domain.booking import lease_id
from services.scheduler.settings import Settings
from tests.conftest import Running
from tests.scheduler import builders
from tests.scheduler.processes import NodeProcess
from wire.booking import BookingPlaced, ClusterDegraded, ClusterReady, LeaseEnded, NodesHeld
from wire.node import Heartbeat, NodeAdmitted, NodeLost, NodeWithdrawn, StartRayNode, StopRayNode

ROOT = Path(__file__).parent.parent.parent
# Keys that the test server knows, and that nothing else uses in these tests.
KEYS = ("pricing", "prober", "reputation")

Serve = Callable[..., AbstractAsyncContextManager[Running]]


@pytest_asyncio.fixture(loop_scope="session")
async def nodes(servers: LocalServers, seed_files: dict[str, Path]) -> AsyncIterator[list[NodeProcess]]:
    made = [NodeProcess(servers.addresses.nats, seed_files[key]) for key in KEYS]
    yield made
    for node in made:
        await node.end()


@pytest.fixture
def serve(running_service: Serve, settings: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def prepare(**more: Any) -> AbstractAsyncContextManager[Running]:
        own = await settings("scheduler", Settings, **{"begin_grace_seconds": 2.0, **more})
        return running_service(service(own), own)

    return prepare


async def never(running: Running, seconds: float) -> None:
    await asyncio.sleep(seconds)
    assert list(running.all_heard(NodeLost)) == []


async def test_a_killed_node_is_lost_at_once_and_its_next_process_is_admitted(
    serve: Any, nodes: list[NodeProcess]
) -> None:
    async with await serve() as running:
        await nodes[0].start()
        await running.heard(NodeAdmitted, node_id=nodes[0].node_id)
        await asyncio.sleep(0.3)
        nodes[0].send(signal.SIGKILL)
        lost = await running.heard(NodeLost, timeout=1.0)
        assert (lost.node_id, lost.reason) == (nodes[0].node_id, "disconnected")
        assert 0 <= lost.at - lost.last_seen_at < 500
        await nodes[0].end()
        running.arrived.clear()
        await nodes[0].start()
        await running.heard(NodeAdmitted, node_id=nodes[0].node_id)
        await never(running, 1.5)


async def test_a_frozen_node_is_lost_and_when_it_wakes_it_stops_what_is_over_and_serves_again(
    serve: Any, nodes: list[NodeProcess]
) -> None:
    node = nodes[0]
    first = lease_id("acme", "bkg_1", node.node_id, 1)
    async with await serve() as running:
        await node.start(leases=first)
        await running.heard(NodeAdmitted)
        order = await running.publish(builders.order(nodes=1))
        await running.heard(BookingPlaced)
        await running.publish(builders.quoted(order))
        await running.publish(builders.funded(await running.heard(NodesHeld)))
        await running.publish(builders.started(await running.heard(StartRayNode)))
        await running.heard(ClusterReady)
        running.arrived.clear()

        node.send(signal.SIGSTOP)
        frozen_at = now_ms()
        lost = await running.heard(NodeLost, timeout=4.5)
        assert lost.lease_ids == (first,)
        ended = await running.heard(LeaseEnded)
        assert frozen_at - 5_000 <= ended.ended_at <= frozen_at + 1_000
        await running.heard(ClusterDegraded)
        running.arrived.clear()

        node.send(signal.SIGCONT)
        await running.heard(NodeAdmitted, timeout=8.0)
        assert (await running.heard(StopRayNode)).lease_id == first
        again = await running.heard(StartRayNode)
        assert (again.lease.fence, again.role, again.generation) == (2, "head", 2)


async def test_two_schedulers_see_one_loss(serve: Any, nodes: list[NodeProcess]) -> None:
    async with await serve() as running, await serve() as other:
        await nodes[0].start()
        await running.heard(NodeAdmitted)
        await asyncio.sleep(0.5)
        nodes[0].send(signal.SIGKILL)
        await other.heard(NodeLost, timeout=3.0)
        await asyncio.sleep(1.0)
        assert len(list(running.all_heard(NodeLost))) == 1


async def test_a_node_that_freezes_briefly_keeps_its_place(serve: Any, nodes: list[NodeProcess]) -> None:
    async with await serve() as running:
        await nodes[0].start(beat=1.0)
        await running.heard(NodeAdmitted)
        await asyncio.sleep(0.5)
        nodes[0].send(signal.SIGSTOP)
        await asyncio.sleep(1.5)
        nodes[0].send(signal.SIGCONT)
        await never(running, 4.0)


async def test_a_node_that_leaves_is_withdrawn_and_not_lost(serve: Any, nodes: list[NodeProcess]) -> None:
    async with await serve() as running:
        await nodes[0].start()
        await running.heard(NodeAdmitted)
        nodes[0].send(signal.SIGUSR1)
        await running.heard(NodeWithdrawn, node_id=nodes[0].node_id)
        await never(running, 1.5)


async def test_a_second_connection_of_the_same_key_may_come_and_go(
    serve: Any, nodes: list[NodeProcess], servers: LocalServers, seed_files: dict[str, Path]
) -> None:
    async with await serve() as running:
        await nodes[0].start()
        await running.heard(NodeAdmitted)
        await asyncio.sleep(0.3)
        other = await ask.connect(servers.addresses.nats, name="other", seed_file=str(seed_files[KEYS[0]]))
        await other.close()
        await never(running, 1.5)


async def test_a_restart_of_the_server_loses_nobody(
    serve: Any, nodes: list[NodeProcess], servers: LocalServers
) -> None:
    async with await serve(begin_grace_seconds=3.0) as running:
        for node in nodes:
            await node.start(beat=1.0)
        for node in nodes:
            await running.heard(NodeAdmitted, node_id=node.node_id)
        servers.kill("nats")
        await servers.restart("nats")
        await never(running, 5.0)
        # It still notices.
        nodes[1].send(signal.SIGKILL)
        assert (await running.heard(NodeLost, timeout=2.0)).node_id == nodes[1].node_id


async def test_a_restart_of_the_scheduler_loses_only_who_died_meanwhile(serve: Any, nodes: list[NodeProcess]) -> None:
    async with await serve() as running:
        for node in nodes[:2]:
            await node.start(beat=1.0)
            await running.heard(NodeAdmitted, node_id=node.node_id)
    await nodes[0].end()
    async with await serve() as running:
        lost = await running.heard(NodeLost, timeout=6.0)
        assert lost.node_id == nodes[0].node_id
        await asyncio.sleep(2.0)
        assert [lost.node_id for lost in running.all_heard(NodeLost)] == [nodes[0].node_id]


async def test_a_heartbeat_in_anothers_name_is_not_heard(
    serve: Any, nodes: list[NodeProcess], seed_files: dict[str, Path]
) -> None:
    async with await serve(silence_seconds=2.0) as running:
        await nodes[0].start(beat=3_600.0)
        await running.heard(NodeAdmitted)
        forged = Heartbeat(id="forged", at=1, node_id=nodes[0].node_id, boot_id="boot_1")
        body = b'{"type":"Heartbeat","id":"f","at":1,"node_id":"%s","boot_id":"boot_1"}' % nodes[0].node_id.encode()
        other = nkey.load(seed_files[KEYS[1]]).public_key
        for _ in range(30):
            await running.client.publish(forged.subject().replace(nodes[0].node_id, other), body)
            await running.client.publish(forged.subject(), b'{"type":"Heartbeat","node_id":7}')
            if list(running.all_heard(NodeLost)):
                break
            await asyncio.sleep(0.2)
        assert (await running.heard(NodeLost, timeout=1.0)).reason == "silent"
