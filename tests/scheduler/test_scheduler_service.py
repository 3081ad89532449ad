"""The service as it runs: served on real NATS and PostgreSQL, spoken to by an outsider."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from libs.bus import ask
from services.scheduler.__main__ import service
from services.scheduler.settings import Settings
from tests.scheduler import builders
from wire.access import MessageRefused
from wire.booking import (
    BookingEnded,
    BookingPlaced,
    BookingRefused,
    BookingStatus,
    ClusterReady,
    GetBooking,
    NodesHeld,
    PlaceBooking,
    ReleaseBooking,
)
from wire.message import encode
from wire.node import FleetView, GetFleet, NodeAdmitted, StartRayNode, StopRayNode
from wire.values import Reason

Prepare = Callable[..., Awaitable[Any]]


@pytest.fixture
def serve(running_service: Any, settings: Callable[..., Awaitable[Any]]) -> Prepare:
    async def prepare(**more: Any) -> Any:
        own = await settings("scheduler", Settings, **more)
        return running_service(service(own), own)

    return prepare


async def test_a_booking_on_the_bus(serve: Prepare) -> None:
    async with await serve() as running:
        for number in (1, 2):
            await running.publish(builders.joined(number))
            await running.heard(NodeAdmitted, node_id=builders.node_id(number))
        order = await running.publish(builders.order())
        placed = await running.heard(BookingPlaced)
        assert placed.request == order.request
        await running.publish(builders.quoted(order))
        await running.publish(builders.funded(await running.heard(NodesHeld)))
        for number in (1, 2):
            await running.publish(builders.started(await running.heard(StartRayNode, node_id=builders.node_id(number))))
        ready = await running.heard(ClusterReady)
        status = await ask.ask(running.client, GetBooking(partner="acme", booking_id="bkg_1"), BookingStatus)
        assert (status.state, status.head_node_id) == ("ready", ready.head_node_id)
        fleet = await ask.ask(running.client, GetFleet(identity="acme"), FleetView)
        assert [node.state for node in fleet.nodes] == ["leased", "leased"]
        await running.publish(ReleaseBooking(partner="acme", booking_id="bkg_1"))
        assert len((await running.heard(BookingEnded)).spans) == 2
        await running.heard(StopRayNode)


async def test_an_escrow_that_never_comes(serve: Prepare) -> None:
    async with await serve(hold_seconds=1.0) as running:
        for number in (1, 2):
            await running.publish(builders.joined(number))
            await running.heard(NodeAdmitted, node_id=builders.node_id(number))
        order = await running.publish(builders.order())
        await running.heard(BookingPlaced)
        await running.publish(builders.quoted(order))
        assert (await running.heard(BookingRefused)).refusal.reason == Reason.no_answer


def body_of(**changes: Any) -> bytes:
    """An order in JSON, with something wrong in it."""
    import msgspec

    content = msgspec.json.decode(encode(builders.order().stamped("order_1", builders.T0)))
    content["request"].update(changes.pop("request", {}))
    content.update(changes)
    return msgspec.json.encode(content)


BAD: dict[str, tuple[bytes, Reason]] = {
    "no JSON": (b"{", Reason.malformed),
    "not an object": (b"[1]", Reason.malformed),
    "another type": (body_of(type="Deposit"), Reason.unknown_type),
    "no id": (body_of(id=""), Reason.malformed),
    "zero nodes": (body_of(request={"nodes": 0}), Reason.malformed),
    "negative nodes": (body_of(request={"nodes": -1}), Reason.malformed),
    "huge nodes": (body_of(request={"nodes": 10**30}), Reason.malformed),
    "half a node": (body_of(request={"nodes": 1.5}), Reason.malformed),
    "not a number": (body_of().replace(b'"nodes":2', b'"nodes":NaN'), Reason.malformed),
    "no time": (body_of(request={"duration_seconds": 0}), Reason.malformed),
    "wrong unit": (body_of(max_total={"amount": "1 USD"}), Reason.malformed),
    "unknown asset": (body_of(max_total={"amount": 1, "asset": "EUR"}), Reason.malformed),
    "negative money": (body_of(max_total={"amount": -1, "asset": "USD"}), Reason.malformed),
    "another partner": (body_of(partner="globex"), Reason.malformed),
    "another booking": (body_of(booking_id="bkg_2"), Reason.malformed),
}


@pytest.mark.parametrize("name", list(BAD))
async def test_bad_input_gets_one_clear_refusal(serve: Prepare, name: str) -> None:
    body, reason = BAD[name]
    async with await serve() as running:
        await running.publish_raw(builders.order().subject(), body, "order_1")
        refused = await running.heard(MessageRefused)
        assert (refused.identity, refused.refusal.reason) == ("acme", reason)
        assert refused.refusal.detail
        await running.publish(builders.order("bkg_2"))
        await running.heard(BookingPlaced, booking_id="bkg_2")
        assert len(list(running.all_heard(MessageRefused))) == 1
        assert len(list(running.all_heard(BookingPlaced))) == 1


async def test_an_unknown_verb_and_a_reused_id_are_refused(serve: Prepare) -> None:
    async with await serve() as running:
        order = builders.order().stamped("order_1", builders.T0)
        await running.publish_raw(order.subject().replace("place", "give"), encode(order), "order_0")
        refused = await running.heard(MessageRefused)
        assert (refused.identity, refused.refusal.reason) == ("acme", Reason.unknown_type)
        await running.publish(order)
        await running.heard(BookingPlaced)
        running.arrived.clear()
        other = PlaceBooking(
            id="order_1",
            at=builders.T0,
            partner="acme",
            booking_id="bkg_1",
            request=builders.request(nodes=1),
            max_total=order.max_total,
        )
        await running.publish(other)
        assert (await running.heard(MessageRefused)).refusal.reason == Reason.id_reused
        assert not list(running.all_heard(BookingPlaced))


async def test_a_question_about_anothers_booking(serve: Prepare) -> None:
    async with await serve() as running:
        await running.publish(builders.order())
        await running.heard(BookingPlaced)
        query = GetBooking(partner="globex", booking_id="bkg_1").stamped("q_1", builders.T0)
        answer = await running.client.request(query.subject(), encode(query), timeout=5)
        assert b'"type":"Refused"' in answer.data
        assert b"unknown_booking" in answer.data
