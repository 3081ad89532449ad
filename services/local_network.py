"""The whole network as processes of this machine: servers, services and node agents, watched and ended together."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError

from libs import process
from libs.bus import ask
from libs.clock import now_ms
from libs.local.errors import LocalError
from libs.local.passwords import write_private
from libs.local.server import last_line
from libs.local.servers import Addresses, LocalServers, cannot_use
from services.network import OPERATOR, PARTNERS, SCHEMAS, Keys, Network
from wire.access import RegisterPartner
from wire.catalog import SERVICES
from wire.ledger import Deposit
from wire.message import Command, deduplication_id, encode
from wire.node import FleetView, GetFleet
from wire.values import usd

READY_SECONDS = 90.0
_ROUND_TRIP_SECONDS = 3
_WATCH_SECONDS = 0.3
_RESTART_SECONDS_MAX = 5.0
_SERVER_PAUSE_SECONDS = 1.0
_SERVERS = ("nats", "postgres", "valkey")
_PASSED_ON = ("BIVOUAC_INBOX", "BIVOUAC_LOG_LEVEL", "BIVOUAC_QUOTE_VALID_SECONDS")

Tell = Callable[[str], None]


class Running(msgspec.Struct, frozen=True):
    """A process of the network and where it writes its log."""

    pid: int
    log: str


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What `network.json` in the data directory says while the network is up."""

    nats_url: str
    profiles: str
    servers: dict[str, Running]
    services: dict[str, Running]
    nodes: dict[str, Running]


class LocalNetwork:
    """`start`, `watch` until cancelled, `stop`. Services and servers that die are started again, node agents are not:
    a node that dies is lost, as it would be in the world."""

    def __init__(self, directory: Path, nodes: int, deposit_usd: int, tell: Tell) -> None:
        self.directory = directory.expanduser().absolute()
        self._tell = tell
        self._nodes = [f"node-{number}" for number in range(1, nodes + 1)]
        self._deposit_usd = deposit_usd
        self._children: dict[str, process.Child] = {}
        self._failures: dict[str, int] = {}
        self._started = False

    async def start(self) -> None:
        """Everything up, funds deposited and all nodes in their pools; raises LocalError."""
        try:
            await self._start_all()
        except OSError as error:
            if error.filename is None:  # of no file: not for the person to mend
                raise
            raise cannot_use(self.directory, error) from error

    async def _start_all(self) -> None:
        self._network = Network(Keys(self.directory / "keys"))
        self._servers = LocalServers(
            self.directory, users=self._network.users(), callout=self._network.callout(), schemas=SCHEMAS
        )
        began = time.monotonic()
        self._addresses = await self._servers.start()
        self._started = True
        self._registry = process.Registry(self.directory / "run")
        (self.directory / "logs").mkdir(exist_ok=True)
        self._tell(f"NATS, PostgreSQL and Valkey are up after {time.monotonic() - began:.1f} s")
        self._network.write_profiles(self.directory / "profiles", self._addresses.nats)
        for name in SCHEMAS:
            self._start_service(name)
        operator = await self._operator()
        await self._seed(operator)
        for number, name in enumerate(self._nodes):
            self._start_node(name, number)
        await self._until_admitted(operator)
        await operator.close()
        self.write_state()
        seconds = time.monotonic() - began
        self._tell(f"{len(SERVICES)} services and {len(self._nodes)} nodes are up after {seconds:.1f} s")

    async def watch(self) -> None:
        """Start again what dies, with growing pauses; runs until it is cancelled."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for name in _SERVERS:
                if not self._servers.running(name):
                    await self._revive(name)
            for name, child in list(self._children.items()):
                if not child.running:
                    await self._mourn(name, child)

    async def stop(self) -> bool:
        """End all of it; may be called at any time. False where nothing was started: what is there is another's."""
        if not self._started:
            return False
        nodes = [self._children[name] for name in self._nodes if name in self._children]
        services = [child for name, child in self._children.items() if name not in self._nodes]
        for group in (nodes, services):
            await asyncio.gather(*(child.stop(grace_seconds=3.0) for child in group))
            for child in group:
                self._registry.remove(child)
        self._children.clear()
        (self.directory / "network.json").unlink(missing_ok=True)
        await self._servers.stop()
        return True

    async def _revive(self, name: str) -> None:
        self._tell(f"{name} died; starting it again on its data")
        try:
            await self._servers.restart(name)
        except LocalError as error:  # it may have died once more while it was starting
            self._tell(f"{error} Trying again in {_SERVER_PAUSE_SECONDS:.0f} s")
            await asyncio.sleep(_SERVER_PAUSE_SECONDS)
        self.write_state()

    async def _mourn(self, name: str, child: process.Child) -> None:
        child.kill()
        self._registry.remove(child)
        del self._children[name]
        if name in self._nodes:
            self._tell(f"{name} died")
            self.write_state()
            return
        self._failures[name] = self._failures.get(name, -1) + 1
        pause = min(0.1 * 2 ** self._failures[name], _RESTART_SECONDS_MAX)
        self._tell(f"{name} died ({last_line(child.log)[:200]}); starting it again in {pause:.1f} s")
        await asyncio.sleep(pause)
        self._start_service(name)
        self.write_state()

    def write_state(self) -> None:
        def of(names: list[str]) -> dict[str, Running]:
            present = {name: self._children[name] for name in names if name in self._children}
            return {name: Running(child.pid, str(child.log)) for name, child in present.items()}

        servers = {name: Running(self._servers.pid(name) or 0, str(self._servers.log(name))) for name in _SERVERS}
        state = State(
            nats_url=self._addresses.nats,
            profiles=str(self.directory / "profiles"),
            servers=servers,
            services=of(list(SERVICES)),
            nodes=of(self._nodes),
        )
        write_private(self.directory / "network.json", msgspec.json.encode(state))

    def _start_service(self, name: str) -> None:
        at: Addresses = self._addresses
        settings = self._network.environment(name, at.nats, at.valkey, at.schemas)
        self._start(name, [sys.executable, "-m", f"services.{name}"], settings)

    def _start_node(self, name: str, number: int) -> None:
        cards = len([entry for entry in os.listdir("/dev") if entry.removeprefix("nvidia").isdigit()])
        cores, memory_mb = os.cpu_count() or 1, _memory_mb()
        settings = {
            "BIVOUAC_NATS_URL": self._addresses.nats,
            "BIVOUAC_NODE_DIRECTORY": str(self.directory / "nodes" / name),
            "BIVOUAC_NODE_NAME": name,
            # The agents share one machine: each offers its part of it, and each card belongs to one of them.
            "BIVOUAC_NODE_CPUS": str(max(1, cores // len(self._nodes))),
            "BIVOUAC_NODE_MEMORY_MB": str(max(512, memory_mb // 2 // len(self._nodes))),
            "BIVOUAC_NODE_GPUS": str(number) if number < cards else "none",
        }
        self._start(name, [sys.executable, "-m", "services.node_agent"], settings)

    def _start(self, name: str, argv: list[str], settings: dict[str, str]) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("BIVOUAC_")}
        switches = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        log = self.directory / "logs" / f"{name}.log"
        child = process.start(argv, log=log, env={**inherited, **switches, **settings}, cwd=self.directory)
        self._registry.add(child)
        self._children[name] = child

    async def _operator(self) -> Client:
        """A connection as operator; the gate must be up for it, so this waits for the gate."""
        seed_file, deadline = str(self._network.keys.file(OPERATOR)), time.monotonic() + READY_SECONDS
        while True:
            client: Client | None = None
            try:
                client = await ask.connect(self._addresses.nats, name=OPERATOR, seed_file=seed_file, patient=False)
                # nats-py takes a ping, which a busy server sends before its no, for a yes; a round trip is proof.
                await client.flush(_ROUND_TRIP_SECONDS)
                return client
            except (NatsError, OSError, TimeoutError):
                if client is not None:
                    await client.close()
                self._check("gate", deadline)
                await asyncio.sleep(0.1)

    async def _seed(self, operator: Client) -> None:
        """The partners of a fresh network with some money; on a network that has been up before, nothing new."""
        for partner in PARTNERS:
            key = self._network.keys.public(partner)
            await _order(
                operator,
                RegisterPartner(id=f"first-{partner}", at=now_ms(), operator=OPERATOR, partner=partner, public_key=key),
            )
            if not self._deposit_usd:
                continue
            await _order(
                operator,
                Deposit(
                    id=f"first-deposit-{partner}",
                    at=now_ms(),
                    operator=OPERATOR,
                    partner=partner,
                    amount=usd(self._deposit_usd * 1_000_000),
                    reference=f"opening-{partner}",
                ),
            )

    async def _until_admitted(self, operator: Client) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                view = await ask.ask(operator, GetFleet(identity=OPERATOR), FleetView, timeout=2.0)
                names = {node.name for node in view.nodes if node.state == "free"}
                if names.issuperset(self._nodes):
                    return
            except (TimeoutError, ask.AskFailed):
                pass
            self._check("scheduler", deadline)
            await asyncio.sleep(0.1)

    def _check(self, awaited: str, deadline: float) -> None:
        """Raises when waiting has no use any more, naming the log that says why."""
        for name, child in self._children.items():
            if not child.running:
                raise LocalError(f"{name} stopped while the network started ({last_line(child.log)}): see {child.log}.")
        if time.monotonic() > deadline:
            log = self.directory / "logs" / f"{awaited}.log"
            raise LocalError(
                f"The network was not up after {READY_SECONDS:.0f} s, waiting for the {awaited}: see {log}."
            )


async def _order(client: Client, command: Command) -> None:
    """Publish a command surely: it is stored when this returns."""
    body, deadline = encode(command), time.monotonic() + READY_SECONDS
    while True:
        try:
            headers = {"Nats-Msg-Id": deduplication_id(command.id, body)}
            await client.jetstream().publish(command.subject(), body, timeout=5, headers=headers)
        except (NatsError, TimeoutError):
            # No stream yet: the services make them.
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


def _memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2
