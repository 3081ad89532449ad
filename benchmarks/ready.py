"""Figure `ready`: order to cluster ready on the local network, against the same head and worker started by hand.

By hand means two plain `ray start` commands at the same moment, on ports of their own and with a token, until the
head's API answers and counts two nodes: the same moment that `ClusterReady` stands for. In turns, so that a noisy
minute touches both.
"""

import asyncio
import json
import os
import secrets
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks import harness
from bivouac.client import Client, cluster
from services.node_agent import capacity
from services.node_agent.ray_cluster import RayPlan, command, port
from services.node_agent.ray_jobs import RayApi, RayRefused

GOAL = 1.15
ROUNDS = 5
CPUS, MEMORY_BYTES, STORE_BYTES = 1, 2 << 30, 512 << 20
RAY = Path(sys.executable).with_name("ray")


def plan(folder: Path, name: str, token: str, head: RayPlan | None) -> RayPlan:
    return RayPlan(
        directory=folder / name,
        token=token,
        ports=capacity.ports(0),
        address="127.0.0.1",
        cpus=CPUS,
        memory_bytes=MEMORY_BYTES,
        object_store_bytes=STORE_BYTES,
        head_address="127.0.0.1" if head else None,
        head_ports=head.ports if head else None,
        name=name,
    )


async def by_hand() -> float:
    """Seconds until two plain `ray start` commands have made a cluster of two."""
    with tempfile.TemporaryDirectory(prefix="r") as place:
        token = secrets.token_hex(32)
        head = plan(Path(place), "h", token, None)
        plans = [head, plan(Path(place), "w", token, head)]
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_USAGE_STATS_ENABLED": "0"}
        began = time.perf_counter()
        children = [
            await asyncio.create_subprocess_exec(
                *[str(RAY), *command(each, each.directory)],
                env=environment,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            for each in plans
        ]
        try:
            await two_nodes(RayApi(port(head.ports, "dashboard"), token))
            return time.perf_counter() - began
        finally:
            for child in children:
                os.killpg(child.pid, signal.SIGKILL)
                await child.wait()
            await sweep(place)


async def two_nodes(api: RayApi) -> None:
    while True:
        try:
            answer = json.loads(await api.ask("GET", "/api/v0/nodes?limit=10"))
            nodes = answer["data"]["result"]["result"]
            if sum(node["state"] == "ALIVE" for node in nodes) == 2:
                return
        except (OSError, TimeoutError, RayRefused):
            pass
        await asyncio.sleep(0.05)


async def sweep(place: str) -> None:
    """Ray's processes leave the group of the command that began them; their command line names our directory."""
    for _ in range(100):
        left = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if place in _words(pid)]
        if not left:
            return
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.05)


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


async def by_order(client: Client) -> tuple[float, dict[str, float]]:
    """Seconds from the order to ClusterReady, and when each step on the way came."""
    began = time.perf_counter()
    booking = await client.book(cluster(2, "CPU", "0.1"), max_total="1")
    steps: dict[str, float] = {}
    async for event in booking.events():
        steps.setdefault(event.verb(), time.perf_counter() - began)
        if event.verb() == "ready":
            break
    seconds = time.perf_counter() - began
    await booking.release()
    await booking.close()
    return seconds, steps


@asynccontextmanager
async def network(data: Path) -> AsyncIterator[Client]:
    words = [sys.executable, "-m", "services", "up", "--data", str(data), "--nodes", "2", "--quiet", "--json"]
    child = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, cwd=harness.ROOT)
    try:
        assert child.stdout is not None
        async for line in child.stdout:
            if "ready" in json.loads(line)["network"]:
                break
        url = json.loads((data / "network.json").read_text())["nats_url"]
        async with await Client.connect(url, identity="acme", key_file=data / "keys" / "acme.seed") as client:
            yield client
    finally:
        child.terminate()
        await child.wait()


async def main() -> None:
    data = Path(tempfile.mkdtemp(prefix="bivouac-ready-"))
    try:
        async with network(data) as client:
            await by_order(client)  # the first of each pays for cold files
            await by_hand()
            ours, theirs, told = [], [], []
            for _ in range(ROUNDS):
                theirs.append(await by_hand())
                seconds, steps = await by_order(client)
                ours.append(seconds)
                told.append(steps)
    finally:
        shutil.rmtree(data, ignore_errors=True)
    harness.table(
        ["way", "median s", "fastest s", "slowest s"],
        [[name, statistics.median(row), min(row), max(row)] for name, row in (("by hand", theirs), ("by order", ours))],
    )
    held = [steps["held"] for steps in told if "held" in steps]
    escrowed = [steps["escrowed"] for steps in told if "escrowed" in steps]
    print(f"of which price and hold {statistics.median(held):.3f} s, escrow {statistics.median(escrowed):.3f} s")
    ratio = statistics.median(ours) / statistics.median(theirs)
    goal = f"≤ {GOAL}×"
    harness.conclude("ready", ratio, "×", "ray start of head and worker, in parallel", goal, holds=ratio <= GOAL)


if __name__ == "__main__":
    harness.run(main)
