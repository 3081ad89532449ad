"""Killed without warning, under load and with real processes: nothing is lost and nothing happens twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from libs import process
from libs.local.servers import LocalServers
from libs.settings import BusSettings
from tests.bus.tally import Add, Added
from wire.message import decode, deduplication_id, encode

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Tallying:
    """The tally service as a process that can be killed and started again."""

    settings: BusSettings
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    child: process.Child | None = None
    kills: int = 0

    def start(self) -> None:
        own = {f"BIVOUAC_{name.upper()}": str(getattr(self.settings, name)) for name in self.settings.__struct_fields__}
        argv = [sys.executable, "-m", "tests.bus.tally"]
        environment = {**os.environ, **own, **self.environment}
        self.child = process.start(argv, log=self.directory / "tally.log", cwd=ROOT, env=environment)

    async def kill(self) -> None:
        assert self.child is not None
        self.child.kill()
        self.kills += 1
        self.start()

    async def stop(self) -> None:
        assert self.child is not None
        await self.child.stop()


@asynccontextmanager
async def tallying(settings: BusSettings, directory: Path, **environment: str) -> AsyncIterator[Tallying]:
    service = Tallying(settings, directory, environment)
    service.start()
    try:
        yield service
    finally:
        await service.stop()


async def publish(client: Client, orders: list[Add]) -> None:
    """As any publisher must: again under the same id until the stream has it."""
    jetstream = client.jetstream(timeout=2.0)
    for order in orders:
        body = encode(order)
        while True:
            try:
                headers = {"Nats-Msg-Id": deduplication_id(order.id, body)}
                await jetstream.publish(order.subject(), body, headers=headers)
                break
            except (NatsError, JetStreamError, TimeoutError):
                await asyncio.sleep(0.05)


async def counts(url: str) -> tuple[int, int, int, int]:
    """Effects, distinct effects, outbox rows, outbox rows not sent yet; all 0 while the database is away."""
    try:
        connection = await asyncpg.connect(url, timeout=2.0)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return 0, 0, 0, 0
    try:
        row = await connection.fetchrow(
            """
            SELECT (SELECT count(*) FROM tally), (SELECT count(DISTINCT n) FROM tally),
                   (SELECT count(*) FROM outbox), (SELECT count(*) FROM outbox WHERE stream_seq IS NULL)
            """
        )
        assert row is not None
        return tuple(row)
    except asyncpg.UndefinedTableError:
        return 0, 0, 0, 0
    finally:
        await connection.close()


async def until(url: str, reached: Callable[[tuple[int, int, int, int]], bool], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not reached(found := await counts(url)):
        assert time.monotonic() < deadline, f"effects, distinct, outbox, unsent: {found}"
        await asyncio.sleep(0.1)


async def kill_at_random(servers: LocalServers, service: Tallying, seconds: float, chance: random.Random) -> list[str]:
    killed = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await asyncio.sleep(chance.uniform(0.2, 1.2))
        victim = chance.choice(["nats", "nats", "postgres", "service"])
        killed.append(victim)
        if victim == "service":
            await service.kill()
        else:
            servers.kill(victim)
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            await servers.restart(victim)
    return killed


async def events(client: Client) -> list[str]:
    """The ids of all events in the stream, in its order."""
    jetstream = client.jetstream()
    state = (await jetstream.stream_info("EVT")).state
    bodies = [(await jetstream.get_msg("EVT", number)).data or b"" for number in range(1, state.last_seq + 1)]
    return [decode(Added, f"evt.tally.{json.loads(body)['who']}.added", body).id for body in bodies]


@pytest.mark.slow
async def test_kills_at_random_lose_nothing_and_double_nothing(
    servers: LocalServers,
    nats_client: Client,
    settings: Callable[..., Awaitable[BusSettings]],
    tmp_path: Path,
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    chance, own, n = random.Random(seed), await settings("counter", group_size=32), 0
    async with tallying(own, tmp_path) as service:
        killing = asyncio.create_task(kill_at_random(servers, service, 15.0, chance))
        while not killing.done():
            orders = [Add(who=f"w{i % 5}", n=i, id=f"m{i}", at=1) for i in range(n, n + 20)]
            await publish(nats_client, orders)
            n += 20
        killed = killing.result()
        await until(own.database_url, lambda found: found[1] == n and found[3] == 0)
        effects, distinct, said, _ = await counts(own.database_url)
    print(f"seed {seed}: {n} messages, kills {killed}")
    assert (effects, distinct, said) == (n, n, n), f"seed {seed}"
    heard = await events(nats_client)
    assert set(heard) == {f"w{i % 5}/m{i}/added" for i in range(n)}, f"seed {seed}"


@pytest.mark.parametrize(("inbox", "effects"), [(True, 1), (False, 2)])
async def test_killed_between_commit_and_acknowledgement(
    nats_client: Client,
    settings: Callable[..., Awaitable[BusSettings]],
    tmp_path: Path,
    inbox: bool,
    effects: int,
) -> None:
    """The moment the inbox is for; with the inbox off the effect doubles, so the drill above is able to fail."""
    own, mark = await settings("counter", inbox=inbox), tmp_path / "died"
    async with tallying(own, tmp_path, DIE_ONCE=str(mark)) as service:
        await publish(nats_client, [Add(who="a", n=1, id="m1", at=1)])  # waits for the stream, which the service makes
        await until(own.database_url, lambda found: mark.exists() and found[0] == 1)
        await service.kill()
        await until(own.database_url, lambda found: found[0] >= effects and found[3] == 0)
        await publish(nats_client, [Add(who="a", n=2, id="m2", at=1)])
        await until(own.database_url, lambda found: found[1] == 2)
        assert (await counts(own.database_url))[:2] == (effects + 1, 2)
