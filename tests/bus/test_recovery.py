"""A service outlives its servers: restarts, refusals, silence, and a commit whose answer never came."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import asyncpg
import pytest
from nats.aio.client import Client

from libs import postgres
from libs.bus import ask
from libs.bus.reach import Reach
from libs.bus.transactions import Transactions
from libs.local.servers import LocalServers
from libs.settings import BusSettings
from tests.bus import tally
from tests.bus.tally import Add, Added, Copied, Copy, GetTally, Tally
from tests.conftest import Running, until

Run = Callable[..., AbstractAsyncContextManager[Running]]


async def added(running: Running, n: int) -> None:
    """One more message goes all the way."""

    async def published() -> bool:
        await running.publish(Add(who="a", n=n, id=f"n{n}", at=1))
        return True

    await until(published)
    await running.heard(Added, n=n, timeout=20)


@pytest.mark.parametrize("server", ["nats", "postgres"])
async def test_a_server_is_killed_and_comes_back(running_service: Run, servers: LocalServers, server: str) -> None:
    async with running_service(tally.service()) as running:
        for n in range(3):
            await added(running, n)
            servers.kill(server)
            await asyncio.sleep(0.3)
            await servers.restart(server)
        await added(running, 3)
        assert await ask.ask(running.client, GetTally(who="a"), Tally, timeout=20) == Tally(rows=4, total=6)


@pytest.mark.slow
async def test_a_frozen_database_costs_no_message(running_service: Run, servers: LocalServers) -> None:
    """Longer than JetStream waits for an acknowledgement: the service says that it is still at it."""
    async with running_service(tally.service()) as running:
        await added(running, 0)
        admin = await asyncpg.connect(servers.addresses.postgres_admin)
        backends = await admin.fetch("SELECT pid FROM pg_stat_activity WHERE usename = 'counter'")
        await admin.close()
        for backend in backends:
            os.kill(backend["pid"], signal.SIGSTOP)
        await running.publish(Add(who="a", n=1))
        await asyncio.sleep(8)
        for backend in backends:
            os.kill(backend["pid"], signal.SIGCONT)
        await running.heard(Added, n=1)
        consumer = await running.client.jetstream().consumer_info("CMD", "counter")
        assert consumer.num_redelivered == 0


async def test_a_connection_ended_for_good_is_replaced(running_service: Run) -> None:
    """nats-py gives up for ever on an error of the protocol; the service must not."""
    reaches: list[Reach] = []

    async def keep(reach: Reach) -> None:
        reaches.append(reach)
        await asyncio.Event().wait()

    async with running_service(tally.service(background=[keep])) as running:
        await added(running, 0)
        transport = reaches[0].nats._transport
        assert transport is not None
        transport.write(b"PUB too.much 99999999\r\n")
        await added(running, 1)
        assert len(reaches) == 2
        assert reaches[0].nats.is_closed


async def test_a_background_task_that_fails_starts_again(running_service: Run) -> None:
    starts = []

    async def fail_twice(reach: Reach) -> None:
        starts.append(reach)
        assert len(starts) > 2, "not yet"
        await reach.transact("background", lambda rows: rows.add("background", 1))

    async with running_service(tally.service(background=[fail_twice])) as running:
        await until(lambda: tallied(running, "background", 1))
        assert len(starts) == 3


async def tallied(running: Running, who: str, rows: int) -> bool:
    return (await ask.ask(running.client, GetTally(who=who), Tally)).rows == rows


async def test_work_in_hand_goes_back_at_once_when_the_service_stops(running_service: Run) -> None:
    async with running_service(tally.service()) as running:
        await running.publish(Copy(who="a", n=1, seconds=60.0))
        await asyncio.sleep(0.5)
    quick = tally.service(effects={Copy: lambda order, reach: copied(order)})
    async with running_service(quick) as running:
        await running.heard(Copied, timeout=3)  # sooner than the server would deliver it by itself


async def copied(order: Copy) -> list[Copied]:
    return [Copied(who=order.who, n=order.n)]


@pytest.mark.parametrize(("after_commit", "rows"), [(True, 1), (False, 1)])
async def test_a_commit_without_an_answer_is_done_once(
    settings: Callable[..., Awaitable[BusSettings]],
    monkeypatch: pytest.MonkeyPatch,
    after_commit: bool,
    rows: int,
) -> None:
    """The connection dies as the transaction ends: the database is asked whether it happened."""
    own = await settings("counter")
    await postgres.migrate(own.database_url, ["libs.bus", "tests.bus"])
    transactions = Transactions(tally.service(), own.database_url, None)
    whole = postgres.Writer.transaction
    losses: list[bool] = []

    @asynccontextmanager
    async def losing(writer: postgres.Writer) -> AsyncIterator[postgres.Connection]:
        lose = not losses
        losses.append(lose)
        async with whole(writer) as connection:
            yield connection
            if lose and not after_commit:
                raise postgres.Away("before the commit")
        if lose:
            raise postgres.Away("after the commit")

    monkeypatch.setattr(postgres.Writer, "transaction", losing)
    await transactions.transact("once", lambda rows: rows.add("a", 1))
    await transactions.close()
    connection = await asyncpg.connect(own.database_url)
    assert await connection.fetchval("SELECT count(*) FROM tally") == rows
    assert losses == [True] if after_commit else [True, False]
    await connection.close()


async def test_a_first_connection_can_be_tried_once() -> None:
    with pytest.raises(OSError):
        await ask.connect("nats://127.0.0.1:9", name="x", patient=False)


async def test_streams_are_made_by_all_who_start(nats_client: Client, running_service: Run, settings: object) -> None:
    async with running_service(tally.service()), running_service(tally.service()):
        names = {stream.config.name for stream in await nats_client.jsm().streams_info()}
        assert names == {"CMD", "NODE_CMD", "EVT", "DEAD"}
