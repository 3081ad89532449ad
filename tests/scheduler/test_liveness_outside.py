"""Nodes as they really come: through the gate, into the account of outsiders; their deaths are heard all the same."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from libs import nkey
from libs.bus.serve import serve
from services.scheduler.__main__ import service
from services.scheduler.settings import Settings
from tests.conftest import Running
from tests.gate.conftest import gate
from tests.gate.town import door_open, found
from tests.scheduler.processes import NodeProcess
from wire.node import NodeAdmitted, NodeLost
from wire.streams import STREAMS


async def test_a_node_behind_the_gate_is_lost_at_once_and_found_by_a_new_scheduler(
    tmp_path: Path, database: Callable[[str], Awaitable[str]]
) -> None:
    town = await found(tmp_path)
    nodes = []
    for name in ("one", "two"):
        nkey.make(tmp_path / f"{name}.seed")
        nodes.append(NodeProcess(town.url, tmp_path / f"{name}.seed"))
    own = Settings(
        nats_url=town.url,
        nats_seed_file=str(tmp_path / "service.seed"),
        database_url=await database("scheduler"),
        store_bytes=256 << 20,
        begin_grace_seconds=1.0,
    )
    (tmp_path / "service.seed").chmod(0o600)
    running = Running(own, await town.inside(), asyncio.Event())
    async with gate(town.settings(await database("gate"))):
        await door_open(town)
        running.client = await town.inside()
        for stream in STREAMS:
            for subject in stream.subjects:
                await running.client.subscribe(subject, cb=running.note)
        try:
            first = asyncio.create_task(serve(service(own), own, stop=running.stop))
            for node in nodes:
                await node.start(beat=1.0)
                await running.heard(NodeAdmitted, node_id=node.node_id)
            await asyncio.sleep(0.5)
            nodes[0].send(signal.SIGKILL)
            assert (await running.heard(NodeLost, timeout=2.0)).node_id == nodes[0].node_id
            running.stop.set()
            await first

            running.stop.clear()
            running.arrived.clear()
            second = asyncio.create_task(serve(service(own), own, stop=running.stop))
            await asyncio.sleep(3.5)
            assert not list(running.all_heard(NodeLost))
            nodes[1].send(signal.SIGKILL)
            assert (await running.heard(NodeLost, timeout=2.0)).node_id == nodes[1].node_id
            running.stop.set()
            await second
        finally:
            running.stop.set()
            for node in nodes:
                await node.end()
            await town.leave()
    await town.server.stop()
