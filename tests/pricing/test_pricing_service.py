"""Pricing on the real bus, with its quotes in a real Valkey."""

import asyncio
from typing import Any

import msgspec
from redis.asyncio import Redis

from tests.conftest import Running
from tests.pricing.conftest import NODE, REQUEST, SPEC, Pricing, answered, declined, place, quoted, told
from wire.booking import BookingQuoted
from wire.node import NodeAdmitted, NodeLost, NodeWithdrawn
from wire.quote import GetQuote, Refused
from wire.values import ClusterRequest, Reason, usd


async def test_a_quote_is_given_kept_and_honoured(pricing: Pricing, valkey: Redis) -> None:
    async with pricing() as running:
        given = await quoted(running)
        assert given.expires_at - given.issued_at == 300_000
        assert [given.lines[0].name, given.lines[-1].name] == ["base price", "operating fee"]
        assert given.total == usd(2 * 346_991)
        (key,) = [key async for key in valkey.scan_iter(f"*{given.quote_id}")]
        assert 890 < await valkey.ttl(key) <= 900
        # What was promised is paid, not what would be computed now.
        promised = msgspec.structs.replace(given, hourly=usd(5), total=usd(10))
        await valkey.set(key, msgspec.json.encode(promised), keepttl=True)
        booking_id = await place(running, given.quote_id)
        assert (await running.heard(BookingQuoted, booking_id=booking_id)).quote == promised


async def test_an_order_without_a_quote_is_priced(pricing: Pricing) -> None:
    async with pricing() as running:
        booking_id = await place(running, None)
        found = (await running.heard(BookingQuoted, booking_id=booking_id)).quote
        assert (found.request, found.total) == (REQUEST, usd(2 * 346_991))


async def test_a_quote_expires(pricing: Pricing, valkey: Redis) -> None:
    async with pricing(quote_valid_seconds=1, quote_grace_seconds=0) as running:
        given = await quoted(running)
        await asyncio.sleep(1.1)
        assert not [key async for key in valkey.scan_iter(f"*{given.quote_id}")]
        booking_id = await place(running, given.quote_id)
        assert (await declined(running, booking_id))[0] is Reason.quote_expired


async def test_an_order_that_was_placed_in_time_and_came_late_gets_its_quote(pricing: Pricing) -> None:
    async with pricing(quote_valid_seconds=1) as running:
        given = await quoted(running)
        await asyncio.sleep(1.1)
        in_time = await place(running, given.quote_id, at=given.expires_at - 1)
        too_late = await place(running, given.quote_id, at=given.expires_at)
        assert (await running.heard(BookingQuoted, booking_id=in_time)).quote == given
        assert (await declined(running, too_late))[0] is Reason.quote_expired


async def test_a_wiped_valkey_expires_every_quote(pricing: Pricing, valkey: Redis) -> None:
    async with pricing() as running:
        given = await quoted(running)
        await valkey.flushall()
        booking_id = await place(running, given.quote_id)
        assert (await declined(running, booking_id))[0] is Reason.quote_expired


async def test_what_is_in_valkey_and_no_quote_is_none(pricing: Pricing, valkey: Redis) -> None:
    async with pricing() as running:
        given = await quoted(running)
        (key,) = [key async for key in valkey.scan_iter(f"*{given.quote_id}")]
        await valkey.set(key, b'{"quote_id": 1}')
        booking_id = await place(running, given.quote_id)
        assert (await declined(running, booking_id))[0] is Reason.quote_expired


async def test_another_partners_quote_is_as_unknown_as_none(pricing: Pricing) -> None:
    async with pricing() as running:
        given = await quoted(running, partner="beta")
        stolen = await declined(running, await place(running, given.quote_id))
        invented = await declined(running, await place(running, "q_none"))
        assert stolen[0] is invented[0] is Reason.quote_expired
        assert stolen[1].replace(given.quote_id, "") == invented[1].replace("q_none", "")


async def test_a_quote_for_another_cluster_does_not_hold(pricing: Pricing) -> None:
    async with pricing() as running:
        given = await quoted(running)
        larger = msgspec.structs.replace(REQUEST, nodes=3)
        booking_id = await place(running, given.quote_id, request=larger)
        reason, detail = await declined(running, booking_id)
        assert reason is Reason.quote_mismatch
        assert "nodes 2 there and 3 here" in detail


async def test_what_cannot_be_priced_is_refused(pricing: Pricing) -> None:
    async with pricing() as running:
        unknown = ClusterRequest(nodes=1, model="RTX 3091", duration_seconds=60)
        answer = await answered(running, GetQuote(partner="acme", request=unknown))
        assert isinstance(answer, Refused)
        assert (answer.refusal.reason, answer.refusal.nearest.split(",")[0]) == (Reason.unknown_model, "RTX 3090")
        booking_id = await place(running, None, request=unknown)
        assert (await declined(running, booking_id))[0] is Reason.unknown_model
        for nodes in (0, 10_001, 1.5):
            wrong = msgspec.structs.replace(REQUEST, nodes=nodes)
            answer = await answered(running, GetQuote(partner="acme", request=wrong))
            assert isinstance(answer, Refused)
            assert answer.refusal.reason is Reason.malformed


async def test_without_valkey_no_quote_is_given_and_orders_are_priced(pricing: Pricing, servers: Any) -> None:
    nowhere = "redis://127.0.0.1:9/0"
    async with pricing(valkey_url=nowhere) as running:
        answer = await answered(running, GetQuote(partner="acme", request=REQUEST))
        assert isinstance(answer, Refused)
        assert answer.refusal.reason is Reason.internal
        assert "max_total" in answer.refusal.nearest
        unquoted, lost = await place(running, None), await place(running, "q_lost")
        assert (await running.heard(BookingQuoted, booking_id=unquoted)).quote.total == usd(2 * 346_991)
        assert (await declined(running, lost))[0] is Reason.quote_expired


async def test_the_pool_is_counted_in_whatever_order_events_come(pricing: Pricing) -> None:
    spec, other = SPEC, NODE[:-1] + "C"

    async def settled(running: Running, expected: int) -> None:
        await told(running, "pool supply", f"0 of {expected} nodes")

    async with pricing() as running:
        await running.publish(NodeAdmitted(node_id=NODE, at=10, spec=spec))
        await running.publish(NodeAdmitted(node_id=other, at=10, spec=spec))
        await settled(running, 2)
        await running.publish(NodeWithdrawn(node_id=other, at=30))
        await settled(running, 1)
        # An admission that was overtaken by the loss that followed it, then a later one.
        await running.publish(NodeAdmitted(node_id=other, at=20, spec=spec))
        await running.publish(NodeLost(node_id=NODE, at=40, reason="silent", last_seen_at=35))
        await settled(running, 0)
        await running.publish(NodeAdmitted(node_id=NODE, at=50, spec=spec))
        await settled(running, 1)
        # A loss that was overtaken by the admission that followed it changes nothing.
        await running.publish(NodeLost(node_id=NODE, at=45, reason="silent", last_seen_at=35))
        await running.publish(NodeAdmitted(node_id=other, at=60, spec=spec))
        await settled(running, 2)
