"""From the outbox to the streams: in order, once, by one relay, and again when a stream has lost what it took."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import asyncpg
import pytest
from nats.aio.client import Client

from libs import postgres
from libs.bus import refill, streams
from libs.bus.outbox import Unsent
from libs.bus.publish import BATCH_MIN, NotStored, Publisher
from libs.local.servers import LocalServers
from libs.settings import BusSettings
from tests.bus import tally
from tests.bus.tally import Add, Added
from tests.conftest import Running, until
from wire.message import decode, deduplication_id, encode
from wire.streams import EVENTS, STREAMS

Run = Callable[..., AbstractAsyncContextManager[Running]]
Settings = Callable[..., Awaitable[BusSettings]]


def row(n: int, size: int = 100) -> Unsent:
    return Unsent(n, f"m{n}", "evt.tally.a.added", "EVT", b"%d " % n + b"x" * size, '{"correlation_id":"c"}')


async def stored(client: Client) -> list[bytes]:
    state = (await client.jetstream().stream_info("EVT")).state
    numbers = range(max(state.first_seq, 1), state.last_seq + 1)
    return [(await client.jetstream().get_msg("EVT", number)).data or b"" for number in numbers]


async def holds(client: Client, count: int) -> bool:
    return (await client.jetstream().stream_info("EVT")).state.messages == count


async def events(client: Client) -> list[int]:
    return [decode(Added, "evt.tally.a.added", body).n for body in await stored(client)]


@pytest.mark.parametrize("count", [1, BATCH_MIN - 1, BATCH_MIN, 1000])
async def test_a_group_is_stored_in_order(nats_client: Client, count: int) -> None:
    await streams.ensure(nats_client, STREAMS)
    publisher = Publisher(nats_client)
    await publisher.open()
    rows = [row(n) for n in range(count)]
    assert await publisher.publish(rows) == list(range(1, count + 1))
    assert await publisher.publish(rows) == list(range(1, count + 1))  # a repeat is stored once
    assert await stored(nats_client) == [one.body for one in rows]


async def test_a_batch_with_a_duplicate_in_it_is_published_singly(nats_client: Client) -> None:
    await streams.ensure(nats_client, STREAMS)
    publisher = Publisher(nats_client)
    await publisher.open()
    await publisher.publish([row(5)])
    assert await publisher.publish([row(n) for n in range(20)]) == [2, 3, 4, 5, 6, 1, *range(7, 21)]


@pytest.mark.parametrize("count", [3, BATCH_MIN + 1])
async def test_no_stream_is_not_stored(nats_client: Client, count: int) -> None:
    publisher = Publisher(nats_client)
    await publisher.open()
    with pytest.raises(NotStored, match="no stream"):
        await publisher.publish([row(n) for n in range(count)])


async def test_a_full_work_queue_refuses_and_names_what_it_took(nats_client: Client) -> None:
    await streams.ensure(nats_client, STREAMS)
    tight = {**streams.stream_config(EVENTS, 1 << 30, 1), "max_bytes": 3000, "discard": "new"}
    await streams.api(nats_client, "STREAM.UPDATE.EVT", tight)
    publisher = Publisher(nats_client)
    await publisher.open()
    with pytest.raises(NotStored, match="maximum bytes") as refused:
        await publisher.publish([row(n, 1000) for n in range(4)])
    assert refused.value.sequences == [1, 2, None, None]


async def test_a_full_stream_does_not_hold_up_the_others(running_service: Run) -> None:
    async def both(order: Add, rows: tally.Rows) -> None:
        rows.say(Added(who="a", n=order.n), Add(who="other", n=order.n, fails="x" * 2000))

    async with running_service(tally.service(handles={Add: both})) as running:
        tight = {**streams.stream_config(STREAMS[0], 1 << 30, 1), "max_bytes": 1000}
        await streams.api(running.client, "STREAM.UPDATE.CMD", tight)
        for n in range(5):
            await running.publish(Add(who="a", n=n))
            await running.heard(Added, n=n, timeout=5)


async def test_a_lost_store_is_filled_again(running_service: Run, servers: LocalServers) -> None:
    async with running_service(tally.service()) as running:
        for n in range(30):
            await running.publish(Add(who="a", n=n))
        await running.heard(Added, n=29)
        servers.kill("nats")
        shutil.rmtree(servers.addresses.directory / "nats" / "jetstream")
        await servers.restart("nats")
        await until(lambda: holds(running.client, 30))
        assert await events(running.client) == list(range(30))
        running.arrived.clear()
        await running.publish(Add(who="a", n=30))  # the consumers are back, too
        await running.heard(Added, n=30)


async def test_a_deleted_stream_is_made_again_and_filled(running_service: Run) -> None:
    async with running_service(tally.service()) as running:
        for n in range(5):
            await running.publish(Add(who="a", n=n))
        await running.heard(Added, n=4)
        await running.client.jsm().delete_stream("EVT")
        await running.publish(Add(who="a", n=5))
        await until(lambda: holds(running.client, 6))
        assert sorted(await events(running.client)) == list(range(6))


@pytest.mark.parametrize("kept", [0, 1, 7, 12, 20])
async def test_a_stream_that_lost_its_end_gets_it_again(running_service: Run, kept: int) -> None:
    """As after a restore of yesterday's disk: others have published at our numbers since."""
    async with running_service(tally.service()) as running:
        for n in range(20):
            await running.publish(Add(who="a", n=n))
        await running.heard(Added, n=19)
    connection = await asyncpg.connect(running.settings.database_url)
    sent = await connection.fetch("SELECT message_id, subject, body FROM outbox ORDER BY seq")
    client, jetstream = running.client, running.client.jetstream()
    await client.jsm().delete_stream("EVT")
    await streams.ensure(client, STREAMS)
    for one in sent[:kept]:
        headers = {"Nats-Msg-Id": deduplication_id(one["message_id"], one["body"])}
        await jetstream.publish(one["subject"], one["body"], headers=headers)
    for n in range(25):
        await jetstream.publish("evt.tally.other.added", b"%d" % n)
    created = (await streams.info(client, "EVT"))["created"]
    await connection.execute("UPDATE streams SET created = $1 WHERE name = 'EVT'", created)
    assert await refill.compare(connection, client, 0) == 20 - kept
    assert await connection.fetchval("SELECT count(*) FROM outbox WHERE stream_seq IS NULL") == 20 - kept
    assert await refill.compare(connection, client, 0) == 0
    await connection.close()


async def test_of_two_replicas_one_relays_and_the_other_takes_over(running_service: Run, settings: Settings) -> None:
    own = await settings("counter", group_size=1)
    async with running_service(tally.service(), own) as second:
        async with running_service(tally.service(), own) as first:
            for n in range(40):
                started = time.monotonic()
                order = await first.publish(Add(who="a", n=n))
                await first.heard(Added, id=f"a/{order.id}/added")
                assert time.monotonic() - started < 1.0, "the replica that does not lead did not tell the one that does"
        for n in range(40, 45):
            await second.publish(Add(who="a", n=n))
        await second.heard(Added, n=44)
    assert sorted(await events(second.client)) == list(range(45))


async def test_old_rows_are_forgotten(running_service: Run) -> None:
    async with running_service(tally.service(keep_days=35)) as running:
        await running.publish(Add(who="a", n=1))
        await running.heard(Added)
    connection = await asyncpg.connect(running.settings.database_url)
    await connection.execute("UPDATE outbox SET at = at - 36::bigint * 86400000")
    await connection.execute("UPDATE inbox SET at = at - 36::bigint * 86400000")
    async with running_service(tally.service(keep_days=35)):

        async def forgotten() -> bool:
            return not await connection.fetchval("SELECT count(*) FROM outbox")

        await until(forgotten)
        assert await connection.fetchval("SELECT count(*) FROM inbox") == 1
    await connection.close()


async def test_migrations_run_once_however_many_start(
    database: Callable[[str], Awaitable[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await database("counter")
    await asyncio.gather(*(postgres.migrate(url, ["libs.bus", "tests.bus"]) for _ in range(5)))
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT count(*) FROM migrations") == 2
    await connection.close()
    monkeypatch.setattr(postgres, "_files", lambda package: [("0001_inbox_outbox.sql", "SELECT 1")])
    with pytest.raises(RuntimeError, match="was changed"):
        await postgres.migrate(url, ["libs.bus"])


def test_an_event_is_its_row(running_service: Run) -> None:
    """encode() is deterministic, so the digest in Nats-Msg-Id is that of the row."""
    event = Added(who="a", n=1, id="1", at=1)
    assert encode(event) == encode(decode(Added, event.subject(), encode(event)))
