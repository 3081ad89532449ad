"""A server with a gate before it: keys, clients of every role, and the gate's settings."""

import asyncio
import base64
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client

from libs import nats_keys, nkey
from libs.local.nats import NETWORK, AuthCallout, NatsServer, NkeyUser
from libs.local.outsiders import OUTSIDE, Border
from libs.nats_keys import Kind
from libs.nkey import Nkey
from libs.process import Registry
from services.gate.settings import Settings
from wire import border
from wire.names import inbox_prefix

OPERATOR = "ops"


@dataclass
class Visitor:
    """A client and what the server complained about to it."""

    client: Client
    complaints: list[str] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)

    async def may_publish(self, subject: str, body: bytes = b"{}") -> bool:
        return not await self._complains(self.client.publish(subject, body))

    async def may_subscribe(self, subject: str) -> bool:
        return not await self._complains(self.client.subscribe(subject))

    async def _complains(self, doing: Any) -> bool:
        before = len(self.complaints)
        await doing
        # nats-py may send its PING ahead of what it still holds back; the second goes after it.
        await self.client.flush()
        await self.client.flush()
        return len(self.complaints) > before


@dataclass
class Town:
    """Everything that stands before the tests begin."""

    directory: Path
    server: NatsServer
    operator: Nkey
    service: Nkey
    visitors: list[Visitor] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.server.url

    def settings(self, database_url: str, **more: Any) -> Settings:
        return Settings(
            **{
                "nats_url": self.url,
                "nats_seed_file": str(self.directory / "service.seed"),
                "database_url": database_url,
                "callout_seed_file": str(self.directory / "callout.seed"),
                "issuer_seed_file": str(self.directory / "issuer.seed"),
                "curve_seed_file": str(self.directory / "curve.seed"),
                "operators": f"{OPERATOR}={self.operator.public_key}",
                "store_bytes": 256 << 20,
                **more,
            }
        )

    async def visit(self, key: Nkey, identity: str = "", **options: Any) -> Visitor:
        """Connects once; raises what nats-py raises where the door stays shut."""
        visitor = Visitor(Client())

        async def complain(error: Exception) -> None:
            visitor.complaints.append(str(error))

        async def closed() -> None:
            visitor.closed.set()

        async def disconnected() -> None:
            visitor.disconnected.set()

        self.visitors.append(visitor)
        await visitor.client.connect(
            self.url,
            **{
                "nkeys_seed_str": key.seed,
                "inbox_prefix": inbox_prefix(identity or key.public_key),
                "allow_reconnect": False,
                "error_cb": complain,
                "closed_cb": closed,
                "disconnected_cb": disconnected,
                **options,
            },
        )
        return visitor

    async def inside(self) -> Client:
        """A connection of our own, which may do everything in the network's account."""
        visitor = await self.visit(self.service, "tester")
        return visitor.client

    async def leave(self) -> None:
        for visitor in self.visitors:
            await visitor.client.close()
        self.visitors.clear()


async def found(directory: Path) -> Town:
    """Start the server; the gate is the caller's to start."""
    operator, service, callout = nkey.new(), nkey.new(), nkey.new()
    issuer = nats_keys.new_seed(Kind.ACCOUNT, secrets.token_bytes(32))
    curve = nats_keys.new_seed(Kind.CURVE, secrets.token_bytes(32))
    seeds = {"service": service.seed, "callout": callout.seed, "issuer": issuer, "curve": curve}
    for name, seed in seeds.items():
        (directory / f"{name}.seed").write_text(seed)
    users = [NkeyUser(service.public_key), NkeyUser(callout.public_key, account="AUTH")]
    asked = AuthCallout(
        issuer=nats_keys.public_of(issuer, Kind.ACCOUNT),
        xkey=nats_keys.public_of(curve, Kind.CURVE),
        border=Border(border.inside(OUTSIDE), border.outside(NETWORK)),
    )
    server = NatsServer(directory / "nats", Registry(directory / "run"), users, asked)
    await server.start()
    return Town(directory, server, operator, service)


async def refused(town: Town, key: Nkey, **options: Any) -> bool:
    """Whether the door stays shut."""
    try:
        await town.visit(key, **options)
    except nats.errors.Error as error:
        return "authorization violation" in str(error).lower()
    return False


async def door_open(town: Town, seconds: float = 20.0) -> None:
    """Until a gate answers."""
    async with asyncio.timeout(seconds):
        while await refused(town, nkey.new()):  # noqa: ASYNC110 - the door alone can tell
            await asyncio.sleep(0.05)
    await town.leave()


async def knock(town: Town, options: dict[str, Any] | bytes, key: Nkey | None = None) -> bytes:
    """What the server says to a CONNECT of these options (or of these bytes), signed with `key` where one is given."""
    reader, writer = await asyncio.open_connection("127.0.0.1", town.server.port)
    try:
        greeting = json.loads((await reader.readline()).removeprefix(b"INFO "))
        if isinstance(options, dict):
            if key is not None:
                options = {**options, "sig": base64.b64encode(key.sign(greeting["nonce"].encode())).decode()}
            options = json.dumps(options).encode()
        writer.write(b"CONNECT " + options + b"\r\nPING\r\n")
        async with asyncio.timeout(5):
            return await reader.readline()
    finally:
        writer.close()
