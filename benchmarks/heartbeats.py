"""Figure `heartbeats`: heartbeats heard by the scheduler's fleet view, against a bare callback that only counts.

Each round floods the server first and reads afterwards, so that the reader alone is measured: parsing, callback and,
in the one case, all that `Service.hears` and the scheduler's view of the fleet do with a heartbeat. Rates are per
second of processor time: on a quiet machine the same as a second, and on a busy one the others do not count.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from benchmarks import harness
from libs import nkey, process
from libs.bus import ask, telemetry_tap
from libs.clock import now_ms
from libs.local.nats import NkeyUser
from libs.local.servers import LocalServers
from services.scheduler.domain.liveness import Known
from services.scheduler.liveness import Liveness, clock_ms
from services.scheduler.settings import Settings
from wire.message import encode
from wire.node import Heartbeat

GOAL = 0.70
NODES, BEATS, ROUNDS = 2_000, 100_000, 7
CONTROL = "benchmark.flood"


def heartbeats() -> list[Heartbeat]:
    """One from each node of a fleet, every fourth of them leased."""
    return [
        Heartbeat(
            id=f"beat_{number:020d}",
            at=now_ms(),
            node_id="U" + f"{number:055d}".replace("0", "A").replace("1", "B").replace("8", "C").replace("9", "D"),
            boot_id=f"boot{number:016d}",
            leases=(f"lease_{number:016d}",) if number % 4 == 0 else (),
        )
        for number in range(NODES)
    ]


async def flood() -> None:
    """The other process: BEATS heartbeats, as fast as the server takes them, each time it is told to."""
    client = await ask.connect(os.environ["NATS_URL"], name="flood", seed_file=os.environ["SEED_FILE"])
    wire = bytearray()
    for beat in heartbeats():
        body = encode(beat)
        wire += b"PUB %s %d\r\n%s\r\n" % (beat.subject().encode(), len(body), body)
    transport: Any = client._transport  # a flood through publish() would be slower than the reader
    begin = await client.subscribe(CONTROL)
    await client.publish(f"{CONTROL}.ready")
    while True:
        message = await begin.next_msg(timeout=None)
        for _ in range(BEATS // NODES):
            transport.write(bytes(wire))
            await transport.drain()
        await client.flush()
        await message.respond(b"")


def fleet(beats: list[Heartbeat]) -> Liveness:
    """The scheduler's own, that knows every node."""
    liveness = Liveness(Settings(nats_url="", database_url=""))
    for beat in beats:
        liveness.view.know(Known(beat.node_id, beat.boot_id, True, False, frozenset(beat.leases)), clock_ms())
    return liveness


async def measure(client: Client, left: list[int], done: asyncio.Event) -> float:
    """Messages a second of this process's processor time, from the first read to the last."""
    left[0] = BEATS
    done.clear()
    inbox = client.new_inbox()
    await client.subscribe(inbox, max_msgs=1)
    await client.publish(CONTROL, reply=inbox)
    await client.flush()
    await asyncio.sleep(0)
    time.sleep(1.0)  # noqa: ASYNC251  nothing is read meanwhile: it waits at the server
    started = time.process_time()
    await done.wait()
    return BEATS / (time.process_time() - started)


async def rounds(client: Client) -> dict[str, list[float]]:
    left = [0]
    done = asyncio.Event()
    beats = heartbeats()
    liveness = fleet(beats)

    async def count(_message: object) -> None:
        left[0] -= 1
        if not left[0]:
            done.set()

    def hear(subject: str, body: bytes) -> None:
        liveness.hear(subject, body)
        left[0] -= 1
        if not left[0]:
            done.set()

    found: dict[str, list[float]] = {"bare callback that counts": [], "decoded into the fleet view": []}
    for _ in range(ROUNDS):
        subscription = await client.subscribe(Heartbeat.pattern(), cb=count, pending_msgs_limit=0)
        found["bare callback that counts"].append(await measure(client, left, done))
        await subscription.unsubscribe()
        failures: Counter[str] = Counter()
        [tap] = await telemetry_tap.listen(client, {Heartbeat: hear}, failures)
        found["decoded into the fleet view"].append(await measure(client, left, done))
        await tap.unsubscribe()
        assert not failures
        assert all(pulse.ever_heard for pulse in liveness.view.pulses.values())
    return found


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        seeds = {role: directory / role for role in ("flood", "reader")}
        users = [NkeyUser(nkey.make(path).public_key) for path in seeds.values()]
        async with LocalServers(directory / "servers", users=users) as servers:
            client = await ask.connect(servers.addresses.nats, name="reader", seed_file=str(seeds["reader"]))
            ready = await client.subscribe(f"{CONTROL}.ready")
            environment = {**os.environ, "NATS_URL": servers.addresses.nats, "SEED_FILE": str(seeds["flood"])}
            argv = [sys.executable, "-m", "benchmarks.heartbeats", "flood"]
            child = process.start(argv, log=directory / "flood.log", cwd=harness.ROOT, env=environment)
            try:
                await ready.next_msg(timeout=20)
                found = await rounds(client)
            finally:
                await client.close()
                await child.stop()
    harness.table(
        ["heartbeats a second of one core", "spread", "median", "best"],
        [
            (way, f"{min(rates):,.0f}–{max(rates):,.0f}", statistics.median(rates), max(rates))
            for way, rates in found.items()
        ],
    )
    # The best of several: what else the machine does can only slow a round down, and seldom all of them.
    bare, heard = (max(rates) for rates in found.values())
    harness.conclude(
        "heartbeats",
        heard / bare,
        "of the bare rate",
        f"{heard:,.0f}/s heard by the scheduler's fleet view against {bare:,.0f}/s of a callback that only counts",
        f"≥ {GOAL:g}",
        holds=heard / bare >= GOAL,
    )


if __name__ == "__main__":
    harness.run(flood if sys.argv[1:] == ["flood"] else main)
