"""A node agent whose bus, gate or processor is away for a while: it comes back as it was, and says everything once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg

from bivouac.client import Client, cluster
from libs import nkey, process
from libs.clock import now_ms
from libs.ids import new_id, new_token
from tests.drills.evidence import stored
from tests.drills.fleet import spec
from tests.drills.network import DrillNetwork, network
from wire.message import decode, deduplication_id, encode
from wire.node import Heartbeat, LeaseRejected, NodeJoined, NodeLost, RayNodeStarted, RayNodeStopped, StartRayNode
from wire.streams import EVENTS
from wire.values import CPU_MODEL, LeaseTerms, NodeId, usd

LIGHT, REAL = "light", "real"
ELSEWHERE = "SI"
AWAY_SECONDS = 10.0
SOON_SECONDS = 4.0
"""What the network may take to notice that it is back; asking for commands anew must not add to it."""

_HEARD_SECONDS = 20.0


class Town:
    """A network with one light node, and one real agent that is never told to start anything."""

    def __init__(self, made: DrillNetwork, inside: Nats, client: Client, agent: process.Child) -> None:
        self.made, self.inside, self.client, self.agent = made, inside, client, agent
        self.beats: dict[str, str] = {}
        """The boot of each node, by its newest heartbeat."""

    def node_id(self, name: str) -> NodeId:
        return nkey.load(self.made.directory / "nodes" / name / "node.seed").public_key

    async def note_beat(self, message: Msg) -> None:
        beat = decode(Heartbeat, message.subject, message.data)
        self.beats[beat.node_id] = beat.boot_id

    async def order(self, name: str, lease_seconds: float) -> StartRayNode:
        """A lease that no scheduler knows of; one that is over already is rejected by its node at once."""
        number, now = new_id(), now_ms()
        node = spec(name, 0)
        order = StartRayNode(
            id=number,
            at=now,
            node_id=self.node_id(name),
            lease=LeaseTerms(lease_id=number, node_id=self.node_id(name), fence=1, hourly=usd(1)),
            booking_id=number,
            role="head",
            head_address=node.address,
            head_ports=node.ray_ports,
            cluster_token=new_token(),
            cluster_nodes=1,
            gpus=0,
            lease_expires_at=now + int(lease_seconds * 1000),
        )
        body = encode(order)
        headers = {"Nats-Msg-Id": deduplication_id(order.id, body)}
        await self.inside.jetstream().publish(order.subject(), body, headers=headers)
        return order

    async def rejects(self, name: str) -> None:
        """The node obeys: it says no, soon, to a lease that is over."""
        over = await self.order(name, lease_seconds=-1)
        await self.heard(LeaseRejected.verb(), SOON_SECONDS, lease_id=over.booking_id)

    async def said(self, verb: str, **about: str) -> list[str]:
        """The ids of the events of that verb about these; each stands in the stream as often as it is here."""
        events = [event for event in await stored(self.inside, EVENTS.name) if event.verb == verb]
        return [event.content["id"] for event in events if event.content.items() >= about.items()]

    async def heard(self, verb: str, seconds: float = _HEARD_SECONDS, **about: str) -> list[str]:
        """As `said`, once there is one."""
        deadline = time.monotonic() + seconds
        while not (found := await self.said(verb, **about)):
            assert time.monotonic() < deadline, f"no {verb} about {about} within {seconds} s"
            await asyncio.sleep(0.1)
        return found


async def until(true: Callable[[], bool], seconds: float = _HEARD_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - it becomes true in a callback
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    async with network(tmp_path_factory.mktemp("away") / "net", {LIGHT: [LIGHT]}) as made:
        inside, client = await made.inside(), await made.partner("acme")
        settings = {
            "BIVOUAC_NATS_URL": made.addresses.nats,
            "BIVOUAC_NODE_DIRECTORY": str(made.directory / "nodes" / REAL),
            "BIVOUAC_NODE_NAME": REAL,
            "BIVOUAC_NODE_GPUS": "none",
            "BIVOUAC_NODE_COUNTRY": ELSEWHERE,
        }
        argv = [sys.executable, "-m", "services.node_agent"]
        log = made.directory / "logs" / "agent.log"
        agent = process.start(argv, log=log, env={**os.environ, **settings}, cwd=made.directory)
        town = Town(made, inside, client, agent)
        try:
            await inside.subscribe(Heartbeat.pattern(), cb=town.note_beat)
            await until(lambda: len(town.beats) == 2, 30.0)
            yield town
        finally:
            await agent.stop()
            await client.close()
            await inside.close()


@pytest.mark.slow
async def test_the_bus_is_away(town: Town) -> None:
    boots = dict(town.beats)
    lease = await town.order(LIGHT, lease_seconds=AWAY_SECONDS / 2)
    await town.heard(RayNodeStarted.verb(), lease_id=lease.booking_id)

    town.made.kill("nats")
    await asyncio.sleep(AWAY_SECONDS)  # in the middle of which the lease runs out by the node's own clock
    await town.made.restart("nats")
    town.beats.clear()
    await until(lambda: len(town.beats) == 2)
    assert town.beats == boots
    await town.rejects(REAL)
    stopped = await town.heard(RayNodeStopped.verb(), lease_id=lease.booking_id, reason="lease_over")
    assert len(stopped) == 1
    for node_id in boots:
        assert len(await town.said(NodeJoined.verb(), node_id=node_id)) == 1


@pytest.mark.slow
async def test_the_gate_is_away(town: Town) -> None:
    """Whoever lost his connection meanwhile stands outside, and gets in when the door is opened again."""
    boots = dict(town.beats)
    for name in (LIGHT, REAL):
        await town.rejects(name)  # so that each has just asked for its next command
    town.made.kill("gate")
    town.made.kill("nats")
    await town.made.restart("nats")
    await asyncio.sleep(5.0)
    town.beats.clear()
    await asyncio.sleep(0.5)
    assert not town.beats
    await town.made.restart("gate")
    await until(lambda: len(town.beats) == 2)
    assert town.beats == boots
    for name in (LIGHT, REAL):
        await town.rejects(name)


@pytest.mark.slow
async def test_a_node_that_is_frozen_for_a_moment_keeps_its_lease(town: Town) -> None:
    await town.made.until_admitted(town.client)
    booking = await town.client.book(
        cluster(1, CPU_MODEL, "0.5", country=spec(LIGHT, 0).location.country), max_total="100"
    )
    await booking.ready(_HEARD_SECONDS)
    lost = await town.said(NodeLost.verb(), node_id=town.node_id(LIGHT))
    town.made.kill(LIGHT, signal.SIGSTOP)
    await asyncio.sleep(1.5)
    town.made.kill(LIGHT, signal.SIGCONT)
    await asyncio.sleep(4.0)  # longer than a loss takes to be noticed
    status = await booking.status()
    assert (status.state, status.node_ids) == ("ready", (town.node_id(LIGHT),))
    assert await town.said(NodeLost.verb(), node_id=town.node_id(LIGHT)) == lost
    await booking.release()
    await booking.close()
