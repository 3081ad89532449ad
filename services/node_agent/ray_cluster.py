"""Runs one Ray node in a sandbox: a head, or a worker that may be started before its head answers.

Ray is one trust domain, so a cluster lives for one booking only, under a token of its own and on ports of its own.
`ray stop` is never called: it would end every Ray node of the machine.
"""

import asyncio
import collections
import contextlib
import os
import re
import sys
import time
from pathlib import Path

import msgspec

from services.node_agent import gpu, sandbox
from services.node_agent.ray_jobs import RESULTS, Head, RayApi, RayRefused
from wire.values import PortBlock

# What the first ports of a block serve, in this order, and the flag that says so to every node; the rest of the block
# is for Ray's worker processes.
_PORTS = {
    "gcs": "",
    "dashboard": "",
    "dashboard_metrics": "",
    "autoscaler_metrics": "",
    "client": "",
    "node_manager": "--node-manager-port",
    "object_manager": "--object-manager-port",
    "agent": "--dashboard-agent-listen-port",
    "agent_grpc": "--dashboard-agent-grpc-port",
    "runtime_env": "--runtime-env-agent-port",
    "metrics": "--metrics-export-port",
}
# Handed over as text: inside, nothing of this project is there to be imported.
_LAUNCH = Path(__file__).with_name("ray_launch.py")
_STARTED = b"Ray runtime started."
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
# Once it runs, Ray prints whole dumps of its state; what went wrong stands in lines of these kinds.
_TELLING = re.compile(r"ERR scripts\.py:|^\[[^]]* [ECF] \d+ \d+\]")
_CHATTER = re.compile(r"(INFO|SUCC) scripts\.py:")
_LINES_KEPT = 20
_SHM_SLACK_BYTES = 256 << 20
_POLL_SECONDS = 0.05
# <directory>/session_2030-01-31_23-59-59_999999_4194304/sockets/plasma_store must fit into the 107 bytes of a socket.
_DIRECTORY_BYTES_MAX = 107 - 64

_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A node is dead after 6 checks that fail, 0.5 s apart: a killed one refuses at once, so within 3 to 4 s. One that
    # is merely slow has 2.5 s for each answer, 18 s in all. Ray's own settings need 15 s and more for either.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2500",
    "RAY_health_check_failure_threshold": "6",
    "RAY_ROTATION_MAX_BYTES": str(16 << 20),
    "RAY_ROTATION_BACKUP_COUNT": "1",
    "RAY_COLOR_PREFIX": "0",
    "PYTHONUNBUFFERED": "1",
}


class RayNodeFailed(Exception):
    """The Ray node ended, or did not start in time; the message ends with the last lines that Ray printed."""


class RayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One Ray node. It is the head, unless `head_address` and `head_ports` name one.

    `directory` is new and empty, and on the disk that Ray may spill to. `address` is where other nodes reach this one;
    Ray replaces 127.0.0.1 by the machine's own address.
    """

    directory: Path
    token: str
    ports: PortBlock
    address: str
    cpus: int
    memory_bytes: int
    object_store_bytes: int
    gpus: tuple[gpu.Gpu, ...] = ()
    head_address: str | None = None
    head_ports: PortBlock | None = None
    name: str | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class AliveNode(msgspec.Struct, frozen=True):
    """A member of a cluster; `node_name` is the name its plan gave it."""

    node_id: str
    node_ip: str
    node_name: str
    is_head_node: bool
    state: str
    resources_total: dict[str, float] = msgspec.field(default_factory=dict)


def port(block: PortBlock, role: str) -> int:
    """The port of a block that serves one of Ray's parts: gcs, dashboard, …"""
    return block.first + list(_PORTS).index(role)


def command(plan: RayPlan, directory: Path) -> list[str]:
    """The words of `ray start`, for a node that sees its directory at `directory`."""
    first_worker, end = plan.ports.first + len(_PORTS), plan.ports.first + plan.ports.count
    words = ["start", "--block", "--disable-usage-stats", f"--temp-dir={directory}"]
    words += [f"--node-ip-address={plan.address}", f"--node-name={plan.name or plan.address}"]
    words += [f"--num-cpus={plan.cpus}", f"--num-gpus={len(plan.gpus)}", f"--memory={plan.memory_bytes}"]
    words += [f"--object-store-memory={plan.object_store_bytes}"]
    words += [f"{flag}={port(plan.ports, role)}" for role, flag in _PORTS.items() if flag]
    # Ray holds a port for each worker process, some of them idle; where the block is too small it has to look itself.
    if end - first_worker >= 2 * plan.cpus + 8:
        words += [f"--min-worker-port={first_worker}", f"--max-worker-port={end - 1}"]
    if plan.labels:
        words.append("--labels=" + ",".join(f"{name}={value}" for name, value in plan.labels.items()))
    if plan.head_ports is not None:
        return [*words, f"--address={plan.head_address}:{port(plan.head_ports, 'gcs')}"]
    words += ["--head", "--no-monitor", "--include-dashboard=true", "--dashboard-host=127.0.0.1"]
    for flag, role in (("--port", "gcs"), ("--dashboard-port", "dashboard"), ("--ray-client-server-port", "client")):
        words.append(f"{flag}={port(plan.ports, role)}")
    return words


class RayNode:
    """A Ray node that was started. `exited` is done once no process of it is left, and holds why it ended."""

    def __init__(self, plan: RayPlan, inside: Path, running: sandbox.Sandboxed) -> None:
        self._plan, self._inside, self._running = plan, inside, running
        self._api = RayApi(port(plan.ports, "dashboard"), plan.token)
        self._said: collections.deque[str] = collections.deque(maxlen=_LINES_KEPT)
        self._started = asyncio.Event()
        self._began = time.monotonic()
        self._stopping = False
        self._head: Head | None = None
        self._warming: asyncio.Task[None] | None = None
        self.exited = asyncio.create_task(self._watch())

    @classmethod
    async def start(cls, plan: RayPlan) -> "RayNode":
        """Start Ray; it is no member yet when this returns. Call it from the main thread (see sandbox.start)."""
        box = await _box(plan)
        words = [sys.executable, "-P", "-c", _LAUNCH.read_text(), *command(plan, sandbox.inside(box))]
        return cls(plan, sandbox.inside(box), await sandbox.start(box, words))

    async def wait_ready(self, nodes: int = 1, seconds: float = 60.0) -> int:
        """Milliseconds from the start until this node was a member and, on the head, `nodes` nodes were.

        Raises RayNodeFailed when Ray ends before, or `seconds` are over; the node may then be stopped as usual.
        """
        member = asyncio.create_task(self._started.wait())
        try:
            async with asyncio.timeout(seconds):
                await asyncio.wait({member, self.exited}, return_when=asyncio.FIRST_COMPLETED)
                if self._plan.head_ports is None and not self.exited.done():
                    await self._wait_members(nodes)
        except TimeoutError:
            raise RayNodeFailed(f"Ray was not ready within {seconds:g} s. {self._last_lines()}") from None
        finally:
            member.cancel()
        if self.exited.done():
            raise RayNodeFailed(self.exited.result())
        return round((time.monotonic() - self._began) * 1000)

    async def _wait_members(self, nodes: int) -> None:
        while not self.exited.done():
            with contextlib.suppress(OSError, RayRefused):
                if len(await self.alive_nodes()) >= nodes:
                    version = msgspec.json.decode(await self._api.ask("GET", "/api/version"))
                    self._head = Head(self._api, self._plan.directory, self._inside, version["session_name"])
                    self._warming = asyncio.create_task(self._warm())
                    return
            await asyncio.sleep(_POLL_SECONDS)

    async def _warm(self) -> None:
        """Have Ray's job agent connect to the cluster now, which spares the first job about half a second."""
        agent = RayApi(port(self._plan.ports, "agent"), self._plan.token)
        with contextlib.suppress(OSError, TimeoutError, RayRefused):
            await agent.ask("GET", "/api/job_agent/jobs/none/logs")

    @property
    def head(self) -> Head:
        """What jobs are submitted to; there is one once `wait_ready` has returned on a head."""
        assert self._head is not None, "not a head, or not ready"
        return self._head

    async def alive_nodes(self) -> list[AliveNode]:
        """The members of the cluster, as its head knows them. Raises OSError, TimeoutError or RayRefused."""
        answer = msgspec.json.decode(await self._api.ask("GET", "/api/v0/nodes?limit=10000"))
        nodes = msgspec.convert(answer["data"]["result"]["result"], list[AliveNode])
        return [node for node in nodes if node.state == "ALIVE"]

    @property
    def pid(self) -> int:
        """The process that all others of the node die with."""
        return self._running.pid

    async def stop(self) -> None:
        """SIGKILL to every process of the node; when this returns there is none, and `exited` is done."""
        self._stopping = True
        if self._warming is not None:
            self._warming.cancel()
        await self._running.end()
        await self.exited

    async def _watch(self) -> str:
        listening = asyncio.create_task(self._listen())
        status = await self._running.wait()
        await self._running.end()
        await listening
        return "Stopped." if self._stopping else f"Ray ended with status {status}. {self._last_lines()}"

    async def _listen(self) -> None:
        unfinished = b""
        while chunk := await self._running.output.read(1 << 16):
            *lines, unfinished = (unfinished + chunk).split(b"\n")
            unfinished = unfinished[-4096:]
            for line in lines:
                said = _ESCAPES.sub("", line.decode(errors="replace")).strip()[:400]
                if _STARTED in line:
                    self._started.set()
                    self._said.clear()
                elif said and (_TELLING.search(said) if self._started.is_set() else not _CHATTER.search(said)):
                    self._said.append(said)

    def _last_lines(self) -> str:
        return " | ".join(self._said)[-1500:]


async def _box(plan: RayPlan) -> sandbox.Box:
    how = await asyncio.to_thread(sandbox.isolation)
    if how is sandbox.Isolation.group and len(os.fsencode(plan.directory)) > _DIRECTORY_BYTES_MAX:
        raise RayNodeFailed(
            f"{plan.directory} is too long for the sockets that Ray keeps there: "
            f"give the agent a directory so short that this is at most {_DIRECTORY_BYTES_MAX} bytes."
        )
    plan.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (plan.directory / RESULTS).mkdir(mode=0o700)
    token = os.open(plan.directory / "token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(token, "w") as file:
        file.write(plan.token)
    box = sandbox.Box(
        directory=plan.directory,
        environment=dict(_ENVIRONMENT),
        shm_bytes=plan.object_store_bytes + _SHM_SLACK_BYTES,
        devices=gpu.device_nodes(plan.gpus),
    )
    box.environment["RAY_AUTH_TOKEN_PATH"] = str(sandbox.inside(box) / "token")
    for role in ("dashboard", "autoscaler"):
        box.environment[f"{role.upper()}_METRIC_PORT"] = str(port(plan.ports, f"{role}_metrics"))
    if how is sandbox.Isolation.group:
        # Inside namespaces the other cards have no device node; here only this keeps them apart.
        box.environment["CUDA_VISIBLE_DEVICES"] = ",".join(str(card.index) for card in plan.gpus)
    return box
