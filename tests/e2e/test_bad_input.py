"""Bad orders on the bus: each gets one clear refusal with a reason, and what is no message is kept aside.

What must be true once all of them are through is checked where the fixture `bus` ends.
"""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from nats.js.errors import APIError

from libs.bus import ask
from libs.ids import new_id
from tests.e2e import bad_bodies
from tests.e2e.bad_bodies import order
from tests.e2e.bus import Bus
from tests.e2e.network import POOR, QUOTE_SECONDS
from wire.booking import BookingPlaced
from wire.message import encode
from wire.quote import GetQuote, Quote, QuoteGiven
from wire.streams import SERVICE_COMMANDS
from wire.values import ClusterRequest, Reason, usd


def fresh(prefix: str = "bkg") -> str:
    return new_id(prefix)


async def quoted(bus: Bus, request: ClusterRequest, partner: str = "acme") -> Quote:
    given = await ask.ask(bus.clients[partner], GetQuote(partner=partner, request=request), QuoteGiven, timeout=10.0)
    return given.quote


@pytest.mark.parametrize("name", bad_bodies.names())
async def test_a_bad_order_gets_one_refusal(name: str, bus: Bus) -> None:
    booking_id = fresh()
    await bus.publish_raw("acme", order(booking_id, "m").subject(), bad_bodies.spoiled(name, booking_id))
    refusal = await bus.refusal(booking_id)
    assert refusal.reason == bad_bodies.reason(name)
    assert refusal.detail and refusal.detail.isprintable()
    if refusal.reason in (Reason.no_capacity, Reason.over_budget, Reason.unknown_model, Reason.quote_expired):
        assert refusal.nearest


async def test_a_body_that_no_stream_takes_is_refused_at_once(bus: Bus) -> None:
    with pytest.raises(APIError, match="size exceeds"):
        await bus.publish_raw("acme", order(fresh(), "m").subject(), b" " * (SERVICE_COMMANDS.max_msg_size + 1))


async def test_a_repeat_has_one_effect(bus: Bus) -> None:
    """Dropped by the stream where it says that it is one, and by the inbox where it does not."""
    booking_id = fresh()
    placed = order(booking_id, fresh("msg"))
    body = encode(placed)
    assert not await bus.publish_raw("acme", placed.subject(), body, fresh("once"))
    await bus.publish("acme", placed)
    assert not await bus.publish_raw("acme", placed.subject(), body)
    assert await bus.publish("acme", placed)
    assert (await bus.refusal(booking_id)).reason is Reason.no_capacity
    await bus.settled(0.5)
    assert [type(message) for message in bus.about(booking_id)].count(BookingPlaced) == 1


async def test_an_id_said_again_with_another_body_is_refused(bus: Bus) -> None:
    booking_id, message_id = fresh(), fresh("msg")
    await bus.publish("acme", order(booking_id, message_id))
    assert (await bus.refusal(booking_id)).reason is Reason.no_capacity
    await bus.publish("acme", order(booking_id, message_id, max_total=usd(11_000_000)))
    assert (await bus.refusal(booking_id)).reason is Reason.id_reused


async def test_a_booking_said_again_as_another_order_is_refused(bus: Bus) -> None:
    booking_id = fresh()
    await bus.publish("acme", order(booking_id, fresh("msg")))
    assert (await bus.refusal(booking_id)).reason is Reason.no_capacity
    await bus.publish("acme", order(booking_id, fresh("msg"), max_total=usd(11_000_000)))
    assert (await bus.refusal(booking_id)).reason is Reason.id_reused


async def test_two_partners_who_choose_the_same_ids_do_not_meet(bus: Bus) -> None:
    booking_id, message_id = fresh(), fresh("msg")
    for partner in ("acme", POOR):
        await bus.publish(partner, order(booking_id, message_id, partner=partner))
        assert (await bus.refusal(booking_id)).reason is Reason.no_capacity
    assert {message.subject().split(".")[2] for message in bus.about(booking_id)} == {"acme", POOR}


@pytest.mark.parametrize("what", ["expired", "of another cluster", "of another partner"])
async def test_a_quote_that_does_not_hold_is_refused_with_todays_price(what: str, bus: Bus) -> None:
    request = order("any", "m").request
    asked = msgspec.structs.replace(request, nodes=1) if what == "of another cluster" else request
    given = await quoted(bus, asked, POOR if what == "of another partner" else "acme")
    if what == "expired":
        await asyncio.sleep(QUOTE_SECONDS + 0.1)
    booking_id = fresh()
    await bus.publish("acme", order(booking_id, fresh("msg"), quote_id=given.quote_id))
    refusal = await bus.refusal(booking_id)
    assert refusal.reason is (Reason.quote_mismatch if what == "of another cluster" else Reason.quote_expired)
    assert "USD" in refusal.nearest


async def test_who_has_too_little_is_told_what_would_do_and_holds_no_node(bus: Bus) -> None:
    booking_id = fresh()
    await bus.publish(POOR, order(booking_id, fresh("msg"), partner=POOR, request={"nodes": 1}))
    refusal = await bus.refusal(booking_id)
    assert refusal.reason is Reason.insufficient_funds
    assert "0.01" in refusal.detail and "deposit" in refusal.nearest
