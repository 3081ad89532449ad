"""Figure `node_lost`: from the death of a node's process to the event NodeLost on a subscriber's desk.

The real scheduler as a process of its own, PostgreSQL and JetStream with every commit synced; the nodes are processes
that connect with their keys and beat. Killed with SIGKILL, and frozen with SIGSTOP. Both clocks are this process'.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NoStreamResponseError

from benchmarks import harness
from libs import nkey
from libs.bus import ask
from libs.clock import now_ms
from libs.local.nats import NkeyUser
from libs.local.servers import Addresses, LocalServers
from wire.message import Event, Message, deduplication_id, encode
from wire.node import Heartbeat, NodeAdmitted, NodeJoined, NodeLost
from wire.values import NodeSpec, PortBlock

KILLS, FREEZES = 30, 6
KILL_GOAL_MS, FREEZE_GOAL_MS = 50.0, 4_000.0
BEAT_SECONDS = 5.0


async def be_a_node() -> None:
    """The other process: joins, and beats until it dies."""
    seed_file, boot_id = os.environ["SEED_FILE"], os.environ["BOOT_ID"]
    node_id = nkey.load(Path(seed_file)).public_key
    client = await ask.connect(os.environ["NATS_URL"], name=node_id, seed_file=seed_file)
    spec = NodeSpec(
        name="rig",
        manufacturer="none",
        model="CPU",
        gpus=0,
        vram_mb=0,
        cpu_model="cpu",
        cpu_cores=1,
        cpu_mhz=1,
        memory_mb=1,
        ray_ports=PortBlock(first=20_000, count=100),
    )
    await store(client, NodeJoined(node_id=node_id, boot_id=boot_id, spec=spec))
    for number in range(10**6):
        beat = Heartbeat(id=f"{boot_id}/{number}", at=now_ms(), node_id=node_id, boot_id=boot_id)
        await client.publish(beat.subject(), encode(beat))
        await asyncio.sleep(BEAT_SECONDS)


async def store(client: Client, message: Message) -> None:
    stamped = message.stamped(os.environ["BOOT_ID"], now_ms())
    body = encode(stamped)
    headers = {"Nats-Msg-Id": deduplication_id(stamped.id, body)}
    while True:
        try:
            await client.jetstream().publish(stamped.subject(), body, headers=headers)
            return
        except (NoStreamResponseError, TimeoutError):
            await asyncio.sleep(0.1)  # the scheduler, just started, makes the stream


class Witness:
    """Notes when each event arrives."""

    def __init__(self) -> None:
        self._arrived: dict[tuple[str, str], asyncio.Future[float]] = {}

    async def listen(self, client: Client) -> None:
        for kind in (NodeAdmitted, NodeLost):
            await client.subscribe(kind.pattern(), cb=self._note)
        await client.flush()

    def expect(self, kind: type[Event], node_id: str) -> asyncio.Future[float]:
        """When it arrives, in seconds of the monotonic clock; only what comes after this call counts."""
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._arrived[kind.verb(), node_id] = future
        return future

    async def _note(self, message: Msg) -> None:
        now = time.monotonic()
        tokens = message.subject.split(".")
        future = self._arrived.pop((tokens[-1], tokens[2]), None)
        if future is not None:
            future.set_result(now)


async def harm(url: str, seed_file: Path, witness: Witness, number: int, how: signal.Signals) -> float:
    """Milliseconds from the signal to the news."""
    node_id = nkey.load(seed_file).public_key
    admitted = witness.expect(NodeAdmitted, node_id)
    environment = {**os.environ, "NATS_URL": url, "SEED_FILE": str(seed_file), "BOOT_ID": f"boot_{number}"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.node_lost", "node", cwd=harness.ROOT, env=environment
    )
    try:
        await asyncio.wait_for(admitted, 20)
        # Not always at the same point between two pings of the server.
        await asyncio.sleep(0.4 + 0.13 * (number % 8))
        lost = witness.expect(NodeLost, node_id)
        killed_at = time.monotonic()
        process.send_signal(how)
        return (await asyncio.wait_for(lost, 30) - killed_at) * 1000
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def scheduler(addresses: Addresses, seed_file: Path) -> AsyncIterator[None]:
    environment = {
        **os.environ,
        "BIVOUAC_NATS_URL": addresses.nats,
        "BIVOUAC_NATS_SEED_FILE": str(seed_file),
        "BIVOUAC_DATABASE_URL": addresses.schemas["scheduler"],
        "BIVOUAC_LOG_LEVEL": "warning",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.scheduler", cwd=harness.ROOT, env=environment
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def p95(values: list[float]) -> float:
    """The nearest rank: of 20 values the 19th."""
    return sorted(values)[-(-95 * len(values) // 100) - 1]


async def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        seeds = {name: Path(scratch) / f"{name}.seed" for name in ("scheduler", "witness", "node_0", "node_1")}
        users = [NkeyUser(nkey.make(path).public_key) for path in seeds.values()]
        async with LocalServers(Path(scratch) / "servers", users=users, schemas=["scheduler"]) as servers:
            url = servers.addresses.nats
            witness = Witness()
            client = await ask.connect(url, name="witness", seed_file=str(seeds["witness"]))
            await witness.listen(client)
            async with scheduler(servers.addresses, seeds["scheduler"]):
                killed = [
                    await harm(url, seeds[f"node_{number % 2}"], witness, number, signal.SIGKILL)
                    for number in range(KILLS)
                ]
                frozen = [
                    await harm(url, seeds[f"node_{number % 2}"], witness, KILLS + number, signal.SIGSTOP)
                    for number in range(FREEZES)
                ]
            await client.close()
    report(killed, frozen)


def report(killed: list[float], frozen: list[float]) -> None:
    rows = [
        (name, len(values), statistics.median(values), p95(values), max(values), goal)
        for name, values, goal in (
            ("SIGKILL -> NodeLost, ms", killed, KILL_GOAL_MS),
            ("SIGSTOP -> NodeLost, ms", frozen, FREEZE_GOAL_MS),
        )
    ]
    harness.table(("what", "times", "p50", "p95", "max", "goal"), rows)
    holds = p95(killed) <= KILL_GOAL_MS and p95(frozen) <= FREEZE_GOAL_MS
    against = f"SIGKILL of a node's process; SIGSTOP p95 {p95(frozen):,.0f} ms"
    goal = f"p95 <= {KILL_GOAL_MS:.0f} ms, after SIGSTOP p95 <= {FREEZE_GOAL_MS:,.0f} ms"
    harness.conclude("node_lost", p95(killed), "ms", against, goal, holds=holds)


if __name__ == "__main__":
    harness.run(be_a_node if sys.argv[1:] == ["node"] else main)
