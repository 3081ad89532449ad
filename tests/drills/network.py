"""The network under a drill: the local network's own servers, services and supervisor, with fleets of light agents.

Nothing is told that it will be killed: faults come from outside, as signals to pids, and the supervisor finds out.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from nats.aio.client import Client as Nats

from bivouac.client import Client
from bivouac.errors import BivouacError
from bivouac.keys import new_seed, public_key
from bivouac.operator import Operator
from libs import nkey, process
from libs.bus import ask
from libs.local.servers import Addresses
from services.local_network import LocalNetwork
from services.network import OPERATOR, SCHEMAS

ROOT = Path(__file__).parent.parent.parent
PYTHONPATH = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
SERVERS = ("nats", "postgres", "valkey")
FLEETS = {"fleet-a": [f"a{n}" for n in range(4)], "fleet-b": [f"b{n}" for n in range(4)]}
NODES = sum(len(names) for names in FLEETS.values())
DEPOSIT_USD = 1_000_000
_ADMITTED_SECONDS = _SERVER_SECONDS = 60.0

# Shorter than in life, so that what waits for a deadline is over within a test.
SHORT: Mapping[str, Mapping[str, str]] = {
    "scheduler": {"BIVOUAC_HOLD_SECONDS": "10", "BIVOUAC_START_SECONDS": "20"},
    "ledger": {"BIVOUAC_EPOCH_SECONDS": "10"},
    "prober": {
        "BIVOUAC_PROBE_INTERVAL_SECONDS": "10",
        "BIVOUAC_PROBE_PRODUCT_ORDER": "64",
        "BIVOUAC_PROBE_CHAIN_LINKS": "1000",
        "BIVOUAC_PROBE_MEMORY_MB": "1",
        "BIVOUAC_PROBE_PAYLOAD_BYTES": "1024",
    },
}


class DrillNetwork(LocalNetwork):
    """The local network, whose fleets are started again as a rig's operator would, and which notes unbidden deaths."""

    def __init__(self, directory: Path, fleets: Mapping[str, list[str]], settings: Mapping[str, str]) -> None:
        super().__init__(directory, 0, DEPOSIT_USD, lambda line: None)
        self._fleets, self._more, self._settings = fleets, dict(settings), dict(SHORT)
        self._killed: set[int] = set()
        self.died: list[str] = []

    @property
    def addresses(self) -> Addresses:
        return self._addresses

    async def start(self) -> None:
        await super().start()
        for name in self._fleets:
            self._start_service(name)

    async def restart(self, name: str) -> None:
        """A server on its data, or a service; for where no supervisor watches."""
        if name in SERVERS:
            await self._servers.restart(name)
        else:
            child = self._children.pop(name)
            await child.stop()
            self._registry.remove(child)
            self._start_service(name)

    def pid(self, name: str) -> int | None:
        """None while it is dead."""
        if name in SERVERS:
            return self._servers.pid(name) if self._servers.running(name) else None
        child = self._children.get(name)
        return child.pid if child is not None and child.running else None

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> bool:
        """The signal to its process; False where there is none just now."""
        pid = self.pid(name)
        if pid is None:
            return False
        if how is signal.SIGKILL:
            self._killed.add(pid)
        os.kill(pid, how)
        return True

    async def restart_with(self, name: str, **settings: str) -> None:
        """A service with further settings."""
        self._settings[name] = {**self._settings.get(name, {}), **settings}
        await self.restart(name)

    def _start_service(self, name: str) -> None:
        if name in self._fleets:
            argv = [sys.executable, "-m", "tests.drills.fleet", self.addresses.nats, str(self.directory / "nodes")]
            self._start(name, [*argv, *self._fleets[name]], {"PYTHONPATH": PYTHONPATH})
        else:
            super()._start_service(name)

    def _start(self, name: str, argv: list[str], settings: dict[str, str]) -> None:
        super()._start(name, argv, {**settings, **self._more, **self._settings.get(name, {})})

    async def _mourn(self, name: str, child: process.Child) -> None:
        if self._children.get(name) is not child:
            return  # somebody else saw to it
        if child.pid not in self._killed:
            self.died.append(f"{name} died by itself: see {child.log}")
        await super()._mourn(name, child)

    async def inside(self) -> Nats:
        """A connection that may do everything in the network's account, under a service's key."""
        seed = nkey.load(self._network.keys.file("pricing")).seed
        return await ask.connect(self.addresses.nats, seed, "drill")

    async def database(self) -> asyncpg.Connection[asyncpg.Record]:
        """As superuser: all schemas; a server that is just starting is waited for."""
        async with asyncio.timeout(_SERVER_SECONDS):
            while True:
                try:
                    return await asyncpg.connect(self.addresses.postgres_admin, timeout=5.0)
                except (OSError, TimeoutError, asyncpg.PostgresError):
                    await asyncio.sleep(0.1)

    async def operator(self) -> Operator:
        return await Operator.connect(
            self.addresses.nats, identity=OPERATOR, key_file=self._network.keys.file(OPERATOR)
        )

    async def partner(self, name: str) -> Client:
        """A new partner with money, or a further connection of one that is known."""
        path = self.directory / "keys" / f"{name}.seed"
        if not path.exists():
            seed = new_seed()
            async with await self.operator() as operator:
                await operator.register_partner(name, public_key(seed))
                await operator.deposit(name, str(DEPOSIT_USD), f"opening-{name}")
            path.write_text(seed)
            path.chmod(0o600)
        async with asyncio.timeout(_SERVER_SECONDS):
            while True:
                client = await Client.connect(self.addresses.nats, identity=name, key_file=path)
                try:
                    await client.balance()
                    return client
                except BivouacError:  # let in as a node: the gate has not read yet whose key that is
                    await client.close()
                    await asyncio.sleep(0.2)

    async def until_admitted(self, client: Client) -> None:
        """All nodes free in their pool."""
        nodes = {node for names in self._fleets.values() for node in names}
        async with asyncio.timeout(_ADMITTED_SECONDS):
            while True:
                try:
                    free = {node.name for node in (await client.fleet()).nodes if node.state == "free"}
                    if free >= nodes:
                        return
                except BivouacError:
                    pass
                await asyncio.sleep(0.2)


@asynccontextmanager
async def network(
    directory: Path, fleets: Mapping[str, list[str]] = FLEETS, **settings: str
) -> AsyncIterator[DrillNetwork]:
    """Up, with all nodes admitted, until the block ends."""
    made = DrillNetwork(directory, fleets, settings)
    try:
        await made.start()
        async with await made.partner("acme") as client:
            await made.until_admitted(client)
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def supervised(made: DrillNetwork) -> AsyncIterator[None]:
    """What dies in the block is started again, as `python -m services up` does it; raises what ended the supervisor."""
    watching = asyncio.create_task(made.watch())
    try:
        yield
    finally:
        watching.cancel()
        (failure,) = await asyncio.gather(watching, return_exceptions=True)
        if isinstance(failure, Exception):
            raise failure


__all__ = ["FLEETS", "NODES", "SCHEMAS", "SERVERS", "DrillNetwork", "network", "supervised"]
