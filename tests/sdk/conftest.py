"""A real nats-server with the network's streams, and a network made of what a test tells it to say."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.js.api import StreamConfig
from nats.js.errors import ServerError

from bivouac import connection
from bivouac.client import Client
from bivouac.keys import new_seed
from bivouac.operator import Operator
from libs import process
from libs.local.nats import binary
from wire.catalog import message_on
from wire.message import Message, Query, Reply, decode, encode
from wire.names import JETSTREAM_DOMAIN, bucket_of_partner, bucket_stream
from wire.streams import STREAMS, Stream

PARTNER = "acme"


class Server:
    """One nats-server; it can be killed and started again on its port and data."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, process.free_port()
        self._child: process.Child | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        store = {"store_dir": str(self.directory / "store"), "domain": JETSTREAM_DOMAIN}
        settings = {"host": "127.0.0.1", "port": self.port, "jetstream": store}
        (self.directory / "nats.conf").write_bytes(msgspec.json.encode(settings))
        argv: list[str | Path] = [binary(), "--config", self.directory / "nats.conf"]
        self._child = process.start(argv, log=self.directory / "nats.log")
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            await asyncio.sleep(0.02)

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()


class Network:
    """The other side: it hears every command, says what it is told to, and answers as it is told to."""

    def __init__(self, client: Nats) -> None:
        self.client, self.stream = client, client.jetstream()
        self.heard: list[Message] = []
        self._rules: dict[type[Message], Callable[[Any], Any]] = {}

    async def listen(self) -> None:
        for stream in STREAMS:
            for subject in stream.subjects:
                await self.client.subscribe(subject, cb=self._hear)

    def on(self, kind: type[Message], rule: Callable[[Any], Any]) -> None:
        """`rule(message)` returns what to say about a command of that kind: an event or several."""
        self._rules[kind] = rule

    async def answers(self, kind: type[Query], rule: Callable[[Any], Reply | None]) -> None:
        """`rule(query)` returns the reply, or None for silence."""

        async def answer(asked: Msg) -> None:
            reply = rule(decode(kind, asked.subject, asked.data))
            if reply is not None:
                await asked.respond(encode(reply))

        await self.client.subscribe(kind.pattern(), cb=answer)

    async def say(self, *messages: Message) -> None:
        for message in messages:
            stamped = message.stamped(connection.new_id("evt"), 1_700_000_000_000)
            await self.client.publish(stamped.subject(), encode(stamped))
        await self.client.flush()

    async def make(self, stream: Stream) -> None:
        """A stream as the network has it; one of a name that was deleted just now can fail, and is tried again."""
        config = StreamConfig(name=stream.name, subjects=list(stream.subjects))
        while True:
            try:
                await self.stream.add_stream(config)
            except ServerError:
                await asyncio.sleep(0.1)
            else:
                return

    async def told(self, kind: type[Message]) -> Any:
        """The first command of that kind; waits for it."""
        async with asyncio.timeout(10):
            while True:
                for message in self.heard:
                    if isinstance(message, kind):
                        return message
                await asyncio.sleep(0.01)

    async def _hear(self, arrived: Msg) -> None:
        kind = message_on(arrived.subject)
        assert kind is not None
        message = decode(kind, arrived.subject, arrived.data)
        self.heard.append(message)
        rule = self._rules.get(kind)
        said = rule(message) if rule else ()
        await self.say(*(said if isinstance(said, tuple) else (said,)))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    server = Server(tmp_path_factory.mktemp("nats"))
    await server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest_asyncio.fixture(loop_scope="session")
async def network(nats_server: Server) -> AsyncIterator[Network]:
    """Fresh streams, an empty bucket for the partner, and a network that has nothing to say yet."""
    client = await nats.connect(nats_server.url)
    network = Network(client)
    bucket = bucket_of_partner(PARTNER)
    await network.stream.create_object_store(bucket)
    await network.stream.purge_stream(bucket_stream(bucket))
    for stream in STREAMS:
        await network.make(stream)
        await network.stream.purge_stream(stream.name)
    await network.listen()
    yield network
    await client.close()


@pytest_asyncio.fixture(loop_scope="session")
async def client(nats_server: Server, network: Network) -> AsyncIterator[Client]:
    async with await Client.connect(nats_server.url, identity=PARTNER, seed=new_seed()) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def operator(nats_server: Server, network: Network) -> AsyncIterator[Operator]:
    async with await Operator.connect(nats_server.url, identity="operator", seed=new_seed()) as operator:
        yield operator
