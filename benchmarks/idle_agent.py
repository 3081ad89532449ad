"""Figure `idle_agent`: memory and start of a node agent, against a bare nats-py + msgspec process.

Both run on the same interpreter and the same server; each tells of itself once it has subscribed, and the time is
taken here, from exec to that word. Memory is what the process has resident two seconds later.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from benchmarks import harness
from libs import nkey
from libs.bus import ask, streams
from libs.local.nats import NkeyUser
from libs.local.servers import LocalServers
from wire.names import NODE_COMMANDS_STREAM, node_consumer
from wire.node import Heartbeat, StartRayNode
from wire.streams import STREAMS

GOAL = 1.5
ROUNDS = 9
SETTLE_SECONDS = 2.0
WORD = "benchmark.subscribed"

BARE = """
import asyncio, sys
import msgspec, nats

class Said(msgspec.Struct):
    id: str

async def main():
    client = await nats.connect(sys.argv[1], nkeys_seed_str=open(sys.argv[2]).read().strip())
    async def heard(message):
        msgspec.json.decode(message.data, type=Said)
    await client.subscribe("benchmark.bare", cb=heard)
    await client.publish(sys.argv[3], b"")
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def one(client: Client, words: list[str], subject: str) -> tuple[float, float]:
    """Seconds from exec until the word is heard, and resident megabytes when it is quiet."""
    said: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def heard(_: object) -> None:
        if not said.done():
            said.set_result(time.perf_counter())

    subscription = await client.subscribe(subject, cb=heard)
    await client.flush()
    began = time.perf_counter()
    child = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.DEVNULL)
    try:
        seconds = await asyncio.wait_for(said, 20) - began
        await asyncio.sleep(SETTLE_SECONDS)
        return seconds, psutil.Process(child.pid).memory_info().rss / 1e6
    finally:
        child.kill()
        await child.wait()
        await subscription.unsubscribe()


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        key, meter = nkey.make(place / "node" / "node.seed"), nkey.make(place / "meter.seed")
        users = [NkeyUser(key.public_key), NkeyUser(meter.public_key)]
        async with LocalServers(place / "servers", users=users) as servers:
            url = servers.addresses.nats
            client = await ask.connect(url, meter.seed, "meter")
            jetstream = client.jetstream()
            await streams.ensure(client, STREAMS, 1 << 28)
            await jetstream.add_consumer(
                NODE_COMMANDS_STREAM,
                ConsumerConfig(
                    durable_name=node_consumer(key.public_key),
                    filter_subject=StartRayNode.pattern(node_id=key.public_key),
                    ack_policy=AckPolicy.EXPLICIT,
                ),
            )
            agent = [sys.executable, "-m", "services.node_agent", "--network", url, "--directory", str(place / "node")]
            bare = [sys.executable, "-c", BARE, url, str(place / "node" / "node.seed"), WORD]
            subject = Heartbeat.pattern(node_id=key.public_key)
            measured: dict[str, list[tuple[float, float]]] = {"bare": [], "agent": []}
            for _ in range(ROUNDS):  # in turns, so that a noisy minute touches both
                measured["bare"].append(await one(client, bare, WORD))
                measured["agent"].append(await one(client, agent, subject))
            await client.close()
    tell(measured)


def tell(measured: dict[str, list[tuple[float, float]]]) -> None:
    seconds = {name: statistics.median(row[0] for row in rows) for name, rows in measured.items()}
    megabytes = {name: statistics.median(row[1] for row in rows) for name, rows in measured.items()}
    harness.table(
        ["process", "exec to subscribed, s", "resident, MB"],
        [[name, seconds[name], megabytes[name]] for name in ("bare", "agent")],
    )
    slower, larger = seconds["agent"] / seconds["bare"], megabytes["agent"] / megabytes["bare"]
    print(f"time {slower:.2f}×, memory {larger:.2f}×, medians of {ROUNDS}")
    worst = max(slower, larger)
    harness.conclude(
        "idle_agent", worst, "×", "bare nats-py + msgspec process", f"≤ {GOAL}× in time and memory", holds=worst <= GOAL
    )


if __name__ == "__main__":
    harness.run(main)
