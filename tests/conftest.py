"""Real servers for the tests: one NATS, PostgreSQL and Valkey a session, fresh tables and streams for each test.

    async def test_something(database, nats_client, running_service):
        async with running_service(service) as running:      # serve() in the test's own loop
            await running.publish(PlaceBooking(...))           # as an outsider: stored, with the right Nats-Msg-Id
            event = await running.heard(BookingPlaced)         # waits for the next one on the bus

`await database("ledger")` is the address of an empty schema, `await settings("ledger")` its settings.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from libs import nkey
from libs.bus import ask
from libs.bus.service import Service
from libs.clock import now_ms
from libs.ids import new_id
from libs.local.nats import NkeyUser
from libs.local.servers import LocalServers
from libs.settings import BusSettings
from tests.e2e.network import live_network as live_network
from wire.catalog import SERVICES
from wire.message import Message, decode, deduplication_id, encode
from wire.streams import STREAMS

TESTER = "tester"
NAMES = (*SERVICES, "counter")  # the last is made up by tests/bus

M = TypeVar("M", bound=Message)
S = TypeVar("S", bound=BusSettings)


@pytest.fixture(scope="session")
def seed_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file with the nkey seed of each service, and of the tester, who may do everything."""
    directory = tmp_path_factory.mktemp("seeds")
    paths = {name: directory / f"{name}.seed" for name in (*NAMES, TESTER)}
    for path in paths.values():
        nkey.make(path)
    return paths


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory, seed_files: dict[str, Path]) -> AsyncIterator[LocalServers]:
    users = [NkeyUser(nkey.load(path).public_key) for path in seed_files.values()]
    directory = tmp_path_factory.mktemp("servers")
    async with LocalServers(directory, users=users, schemas=NAMES) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def database(servers: LocalServers) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """`await database("ledger")`: the address of that service's schema, emptied the first time a test asks for it."""
    emptied: set[str] = set()

    async def empty(name: str) -> str:
        if name not in emptied:
            emptied.add(name)
            admin = await asyncpg.connect(servers.addresses.postgres_admin)
            try:
                await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", name)
                await admin.execute(f"DROP SCHEMA {name} CASCADE; CREATE SCHEMA {name} AUTHORIZATION {name}")
            finally:
                await admin.close()
        return servers.addresses.schemas[name]

    yield empty


@pytest_asyncio.fixture(loop_scope="session")
async def nats_client(servers: LocalServers, seed_files: dict[str, Path]) -> AsyncIterator[Client]:
    """The tester's connection, on a bus without streams."""
    client = await ask.connect(servers.addresses.nats, name=TESTER, seed_file=str(seed_files[TESTER]), patient=False)
    manager = client.jsm()
    for stream in await manager.streams_info():
        assert stream.config.name
        await manager.delete_stream(stream.config.name)
    yield client
    await client.close()


@pytest.fixture
def settings(
    servers: LocalServers, seed_files: dict[str, Path], database: Callable[[str], Awaitable[str]]
) -> Callable[..., Awaitable[Any]]:
    """`await settings("ledger", kind=LedgerSettings, epoch_seconds=5)`."""

    async def of(name: str, kind: type[S] = BusSettings, **more: Any) -> S:  # type: ignore[assignment]
        return kind(
            **{
                "nats_url": servers.addresses.nats,
                "nats_seed_file": str(seed_files[name]),
                "database_url": await database(name),
                "valkey_url": servers.addresses.valkey,
                **more,
            }
        )

    return of


@dataclass
class Running:
    """A service that serves, and an outsider's view of the bus."""

    settings: BusSettings
    client: Client
    stop: asyncio.Event
    arrived: list[Msg] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def note(self, message: Msg) -> None:
        self.arrived.append(message)
        self._news.set()

    async def publish(self, message: M) -> M:
        """Store a command or an event as its sender would; gives it an id and a time if it has none."""
        message = message.stamped(new_id("msg"), now_ms())
        await self.publish_raw(message.subject(), encode(message), message.id)
        return message

    async def publish_raw(self, subject: str, body: bytes, message_id: str = "") -> None:
        headers = {"Nats-Msg-Id": deduplication_id(message_id, body)} if message_id else None
        await self.client.jetstream().publish(subject, body, headers=headers)

    async def heard(self, kind: type[M], timeout: float = 10.0, **expected: Any) -> M:
        """The first event of that kind, with these fields, since the service was started; waits for it."""
        async with asyncio.timeout(timeout):
            while True:
                for message in self.all_heard(kind, **expected):
                    return message
                self._news.clear()
                await self._news.wait()

    def all_heard(self, kind: type[M], **expected: Any) -> Iterator[M]:
        for raw in list(self.arrived):
            if raw.subject.split(".")[-1] == kind.verb() and _fits(kind.pattern(), raw.subject):
                message = decode(kind, raw.subject, raw.data)
                if all(getattr(message, name) == value for name, value in expected.items()):
                    yield message


async def until(true: Callable[[], Awaitable[bool]], timeout: float = 20.0) -> None:
    """Wait until something is the case; a server that is away, or has not got what is asked for, counts as no."""
    deadline = time.monotonic() + timeout
    while True:
        with suppress(NatsError, JetStreamError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            if await true():
                return
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.05)


def _fits(pattern: str, subject: str) -> bool:
    wanted, tokens = pattern.split("."), subject.split(".")
    return len(wanted) == len(tokens) and all(a in ("*", b) for a, b in zip(wanted, tokens, strict=True))


@pytest.fixture
def running_service(
    nats_client: Client, settings: Callable[..., Awaitable[BusSettings]]
) -> Callable[..., AbstractAsyncContextManager[Running]]:
    """`async with running_service(service, **settings) as running`: served in this loop until the block ends."""

    @asynccontextmanager
    async def run(service: Service, own: BusSettings | None = None, **more: Any) -> AsyncIterator[Running]:
        from libs.bus.serve import serve

        own = own or await settings(service.name, **more)
        running = Running(own, nats_client, asyncio.Event())
        listening = [
            await nats_client.subscribe(subject, cb=running.note) for stream in STREAMS for subject in stream.subjects
        ]
        started = asyncio.Event()
        serving = asyncio.create_task(serve(service, own, stop=running.stop, started=started))
        waiting = asyncio.create_task(started.wait())
        try:
            async with asyncio.timeout(30):
                await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            yield running
        finally:
            waiting.cancel()
            running.stop.set()
            async with asyncio.timeout(30):
                await serving
            for subscription in listening:
                await subscription.unsubscribe()

    return run
