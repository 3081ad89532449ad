"""One message, one effect: repeats, reused ids, rubbish and failing handlers against real NATS and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import asyncpg
import pytest

from libs.bus import ask
from tests.bus import tally
from tests.bus.tally import Add, Added, Copied, Copy, Declined, GetTally, Tally
from tests.conftest import Running
from wire.message import encode

Run = Callable[..., AbstractAsyncContextManager[Running]]


async def total(running: Running, who: str) -> Tally:
    return await ask.ask(running.client, GetTally(who=who), Tally)


async def dead(running: Running) -> list[tuple[str, dict[str, str]]]:
    """What lies in the stream of dead letters."""
    found = []
    jetstream = running.client.jetstream()
    state = (await jetstream.stream_info("DEAD")).state
    for number in range(max(state.first_seq, 1), state.last_seq + 1):
        message = await jetstream.get_msg("DEAD", number)
        found.append((message.subject or "", message.headers or {}))
    return found


async def test_a_message_has_its_effect_and_says_so(running_service: Run) -> None:
    async with running_service(tally.service()) as running:
        order = await running.publish(Add(who="a", n=5))
        added = await running.heard(Added, who="a")
        assert (added.n, added.id) == (5, f"a/{order.id}/added")
        assert await total(running, "a") == Tally(rows=1, total=5)


async def test_a_repeat_has_no_effect(running_service: Run) -> None:
    async with running_service(tally.service()) as running:
        order = Add(who="a", n=5, id="same", at=1)
        for _ in range(20):
            # Without the broker's own deduplication, which would hide the inbox.
            await running.publish_raw(order.subject(), encode(order))
        await running.publish(Add(who="a", n=1, id="last", at=1))
        await running.heard(Added, id="a/last/added")
        assert await total(running, "a") == Tally(rows=2, total=6)
        assert len(list(running.all_heard(Added))) == 2
        assert await dead(running) == []


async def test_a_reused_id_is_refused_and_parked(running_service: Run) -> None:
    async with running_service(tally.service()) as running:
        await running.publish(Add(who="a", n=5, id="same", at=1))
        await running.heard(Added)
        await running.publish(Add(who="a", n=6, id="same", at=1))
        declined = await running.heard(Declined)
        assert (declined.message_id, declined.reason) == ("same", "id_reused")
        assert await total(running, "a") == Tally(rows=1, total=5)
        [(subject, headers)] = await dead(running)
        assert subject == f"dead.{Add.pattern(who='a')}"
        assert headers["dead-reason"] == "id_reused"


async def test_senders_do_not_share_ids(running_service: Run) -> None:
    async with running_service(tally.service()) as running:
        await running.publish(Add(who="a", n=5, id="1", at=1))
        await running.publish(Add(who="b", n=6, id="1", at=1))
        ids = {(await running.heard(Added, who=who)).id for who in ("a", "b")}
        assert ids == {"a/1/added", "b/1/added"}


async def test_rubbish_is_refused_by_name(running_service: Run) -> None:
    async with running_service(tally.service()) as running:
        subject = Add.pattern(who="a")
        for body, reason in (
            (b"{", "malformed"),
            (b'{"type":"Add","id":"x1","who":"b","n":1}', "malformed"),
            (b'{"type":"Add","id":"x2","who":"a","n":NaN}', "malformed"),
            (b'{"type":"Add","who":"a","n":1}', "malformed"),
            (b'{"type":"Sub","id":"x3","who":"a","n":1}', "unknown_type"),
            (b"\xff" * 290_000, "malformed"),
        ):
            running.arrived.clear()
            await running.publish_raw(subject, body)
            assert (await running.heard(Declined)).reason == reason
        running.arrived.clear()
        await running.publish_raw("cmd.job.a.frobnicate", b'{"id":"x4"}')
        declined = await running.heard(Declined)
        assert (declined.reason, declined.message_id) == ("unknown_type", "x4")
        assert len(await dead(running)) == 7
        assert await total(running, "a") == Tally(rows=0, total=0)


async def test_a_failing_message_spoils_nothing_but_itself(
    running_service: Run, settings: Callable[..., object]
) -> None:
    async with running_service(tally.service()) as running:
        jetstream = running.client.jetstream()
        publishing = []
        for n in range(40):
            order = Add(who="a", n=n, id=f"m{n}", at=1, fails="on purpose" if n == 20 else "")
            publishing.append(jetstream.publish(order.subject(), encode(order)))
        await asyncio.gather(*publishing)
        for n in range(40):
            if n != 20:
                await running.heard(Added, n=n)
        declined = await running.heard(Declined, timeout=40)
        assert (declined.message_id, declined.reason) == ("m20", "internal")
        assert await total(running, "a") == Tally(rows=39, total=sum(range(40)) - 20)
        assert [headers["dead-reason"] for _, headers in await dead(running)] == ["internal"]


async def test_events_leave_in_the_order_of_their_commits(running_service: Run) -> None:
    async with running_service(tally.service(), group_size=50) as running:
        jetstream = running.client.jetstream()
        for n in range(300):
            order = Add(who="a", n=n, id=f"m{n}", at=1)
            await jetstream.publish_async(order.subject(), encode(order))
        await running.heard(Added, n=299)
        assert [added.n for added in running.all_heard(Added)] == list(range(300))


async def test_an_effect_runs_then_is_recorded(running_service: Run) -> None:
    async with running_service(tally.service()) as running:
        order = Copy(who="a", n=1, id="c1", at=1)
        for _ in range(3):
            await running.publish_raw(order.subject(), encode(order))
        await running.publish(Copy(who="a", n=2, id="c2", at=1, seconds=0.3))
        assert (await running.heard(Copied, n=2)).id == "a/c2/copied"
        assert len(list(running.all_heard(Copied))) == 2
        await running.publish(Copy(who="a", n=3, id="c2", at=1))
        assert (await running.heard(Declined)).reason == "id_reused"


@pytest.mark.slow
async def test_work_longer_than_the_servers_patience_is_done_once(running_service: Run) -> None:
    async with running_service(tally.service()) as running:
        await running.publish(Copy(who="a", n=1, id="c1", at=1, seconds=7.0))
        await running.heard(Copied, timeout=20)
        consumer = await running.client.jetstream().consumer_info("CMD", "counter")
        assert consumer.num_redelivered == 0
        assert consumer.delivered.consumer_seq == 1


async def test_what_repeats_by_itself_never_overlaps(running_service: Run) -> None:
    async with running_service(tally.service(every=[tally.TICKING])) as running:
        await asyncio.sleep(1.05)
        ticks = (await total(running, "clock")).rows
        assert 5 <= ticks <= 11


async def test_the_database_shows_what_the_inbox_is_for(running_service: Run) -> None:
    """With the inbox off, a repeat has its effect again: so the tests above can fail."""
    async with running_service(tally.service(), inbox=False) as running:
        order = Add(who="a", n=5, id="same", at=1)
        for _ in range(3):
            await running.publish_raw(order.subject(), encode(order))
        await running.publish(Add(who="a", n=1, id="last", at=1))
        await running.heard(Added, id="a/last/added")
        assert (await total(running, "a")).rows == 4
        connection = await asyncpg.connect(running.settings.database_url)
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 2
        await connection.close()
