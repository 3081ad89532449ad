"""Ray nodes that start together, run jobs, lose one of them, and leave nothing."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import tempfile
import time
import types
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from libs.process import port_is_free
from services.node_agent import ray_cluster, ray_jobs, sandbox
from services.node_agent.ray_cluster import RayNode, RayNodeFailed, RayPlan
from services.node_agent.ray_jobs import RayApi, RayJob, RayRefused
from wire.values import PortBlock

TOKEN = "5" * 64
PORTS = 64
BOTH = """
import os, pathlib, time
import ray
import beside

@ray.remote(num_cpus=1)
def where():
    print("working on", ray.get_runtime_context().get_node_id(), beside.WORD, flush=True)
    time.sleep(2)
    return ray.get_runtime_context().get_node_id()

ray.init()
nodes = set(ray.get([where.remote() for _ in range(2)]))
time.sleep(1)  # until the lines of the workers are here
pathlib.Path(os.environ["BIVOUAC_RESULT"], "nodes").write_text(" ".join(nodes))
pathlib.Path(os.environ["BIVOUAC_RESULT"], "link").symlink_to("/etc/passwd")
"""
SURVIVING = """
import time
import ray

def slow(batch):
    time.sleep(0.5)
    return {"id": batch["id"] * 2}

ray.init()
print("begin", flush=True)
print("sum", ray.data.range(2400, override_num_blocks=24).map_batches(slow, batch_size=None).sum("id"), flush=True)
"""


class Machines:
    """Plans for Ray nodes whose directories and ports are theirs alone."""

    def __init__(self) -> None:
        # Short, because Ray's sockets lie there, where the node runs without namespaces.
        self._root = Path(tempfile.mkdtemp(prefix="bv", dir="/tmp"))
        self._first = random.randrange(20_000, 30_000, PORTS)
        self._count = 0

    def plan(self, head: RayPlan | None = None) -> RayPlan:
        self._count += 1
        self._first += PORTS
        while not all(port_is_free(port) for port in range(self._first, self._first + PORTS)):
            self._first += PORTS
        return RayPlan(
            directory=self._root / f"n{self._count}",
            token=TOKEN,
            ports=PortBlock(first=self._first, count=PORTS),
            address="127.0.0.1",
            cpus=1,
            memory_bytes=1 << 30,
            object_store_bytes=100 << 20,
            head_address=head and head.address,
            head_ports=head and head.ports,
            name=f"node-{self._count}",
        )

    def clear(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    made = Machines()
    yield made
    made.clear()


class Cluster(types.SimpleNamespace):
    plan: RayPlan
    head: RayNode
    worker: RayNode


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(machines: Machines) -> AsyncIterator[Cluster]:
    plan = machines.plan()
    head, worker = await asyncio.gather(RayNode.start(plan), RayNode.start(machines.plan(plan)))
    try:
        await asyncio.gather(head.wait_ready(nodes=2, seconds=120), worker.wait_ready(seconds=120))
        yield Cluster(plan=plan, head=head, worker=worker)
    finally:
        await asyncio.gather(head.stop(), worker.stop())


def package(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.py", text)
    return path


async def printed(job: RayJob) -> str:
    return "\n".join([line async for lines in job.lines() for line in lines])


async def until_it_runs(job: RayJob) -> None:
    for _ in range(300):
        if (await job.state()).status != "PENDING":
            return
        await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_both_nodes_work_for_a_job(cluster: Cluster, tmp_path: Path) -> None:
    members = await cluster.head.alive_nodes()
    assert {(node.node_name, node.is_head_node) for node in members} == {("node-1", True), ("node-2", False)}

    files = package(tmp_path / "files.zip", main=BOTH, beside="WORD = 'side by side'")
    job = await ray_jobs.submit(cluster.head.head, "both-1", ["python", "main.py"], files, {"RAY_DEDUP_LOGS": "0"})
    log = await printed(job)
    assert (await job.state()).status == "SUCCEEDED", log
    for node in members:
        assert f"working on {node.node_id} side by side" in log

    assert job.save_results(tmp_path / "results.zip") == 1
    results = zipfile.ZipFile(tmp_path / "results.zip")
    assert results.namelist() == ["nodes"], "a link is no result"
    assert set(results.read("nodes").decode().split()) == {node.node_id for node in members}
    job.save_log(tmp_path / "log")
    assert "side by side" in (tmp_path / "log").read_text()


@pytest.mark.slow
async def test_failures_and_stops_are_told_apart(cluster: Cluster) -> None:
    failing = await ray_jobs.submit(cluster.head.head, "fail-1", ["sh", "-c", "echo 'why: $HOME'; exit 3"], None, {})
    assert "why: $HOME" in await printed(failing)
    state = await failing.state()
    assert (state.status, state.driver_exit_code) == ("FAILED", 3)

    endless = await ray_jobs.submit(cluster.head.head, "stop-1", ["sleep", "600"], None, {})
    await until_it_runs(endless)
    await endless.stop()
    await printed(endless)
    assert (await endless.state()).status == "STOPPED"


@pytest.mark.slow
async def test_another_token_opens_nothing(cluster: Cluster) -> None:
    stranger = RayApi(ray_cluster.port(cluster.plan.ports, "dashboard"), "6" * 64)
    with pytest.raises(RayRefused) as refused:
        await stranger.ask("GET", "/api/jobs/")
    assert refused.value.status in (401, 403)


@pytest.mark.slow
async def test_a_job_survives_the_loss_of_a_node(cluster: Cluster, machines: Machines, tmp_path: Path) -> None:
    files = package(tmp_path / "files.zip", main=SURVIVING)
    job = await ray_jobs.submit(cluster.head.head, "survive-1", ["python", "main.py"], files, {})
    replacement: asyncio.Task[RayNode] | None = None

    async def lose_a_node() -> RayNode:
        await asyncio.sleep(3)
        os.kill(cluster.worker.pid, signal.SIGKILL)
        killed = time.monotonic()
        while len(await cluster.head.alive_nodes()) > 1:
            assert time.monotonic() - killed < 8, "3 to 4 s where nothing else runs"
            await asyncio.sleep(0.05)
        assert "status -9" in await cluster.worker.exited
        third = await RayNode.start(machines.plan(cluster.plan))
        await third.wait_ready(seconds=120)
        return third

    log = ""
    async for lines in job.lines():
        log += "\n".join(lines)
        if replacement is None and "begin" in log:
            replacement = asyncio.create_task(lose_a_node())
    assert replacement is not None, log
    third = await replacement
    await third.stop()
    assert (await job.state()).status == "SUCCEEDED", log
    assert f"sum {sum(range(2400)) * 2}" in log


@pytest.mark.slow
@pytest.mark.parametrize("how", [sandbox.isolation(), sandbox.Isolation.group])
async def test_a_node_leaves_no_process(
    how: sandbox.Isolation, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "isolation", lambda: how)
    node = await RayNode.start(plan := machines.plan())
    try:
        await node.wait_ready(seconds=120)
        job = await ray_jobs.submit(node.head, "endless-1", ["sh", "-c", f"sleep 601; : {plan.directory}"], None, {})
        await until_it_runs(job)
    finally:
        began = time.monotonic()
        await node.stop()
    assert time.monotonic() - began < 5
    assert node.exited.result() == "Stopped."
    assert [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(plan.directory) in text(path)] == []


def text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")
    return ""


@pytest.mark.slow
async def test_a_node_that_cannot_start_says_why(machines: Machines) -> None:
    plan = machines.plan()
    with socket.create_server(("127.0.0.1", ray_cluster.port(plan.ports, "dashboard"))):
        node = await RayNode.start(plan)
        with pytest.raises(RayNodeFailed, match="already occupied"):
            await node.wait_ready(seconds=120)
        await node.stop()


@pytest.mark.slow
async def test_a_worker_waits_for_its_head_no_longer_than_told(machines: Machines) -> None:
    node = await RayNode.start(machines.plan(machines.plan()))
    with pytest.raises(RayNodeFailed, match=r"not ready within 1\.5 s"):
        await node.wait_ready(seconds=1.5)
    await node.stop()
    assert node.exited.done()


def test_every_port_is_of_the_block_and_used_once(machines: Machines) -> None:
    plan = machines.plan()
    words = ray_cluster.command(plan, plan.directory)
    ports = [int(word.rpartition("=")[2]) for word in words if "-port=" in word or word.startswith("--port=")]
    assert len(ports) == len(set(ports)) == 11
    assert set(ports) <= set(range(plan.ports.first, plan.ports.first + plan.ports.count))


def test_a_block_too_small_for_the_workers_leaves_them_to_ray(machines: Machines) -> None:
    plan = machines.plan()
    narrow = msgspec.structs.replace(plan, cpus=64)
    assert not any("worker-port" in word for word in ray_cluster.command(narrow, plan.directory))
