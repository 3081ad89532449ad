"""The client on a real bus: nothing it is told is missed, nothing it says is lost or doubled, no refusal is silent."""

import asyncio
import time
from typing import Any

import pytest

from bivouac import Client, Invalid, Refused, TookTooLong, Unreachable, cluster
from bivouac.keys import new_seed
from tests.sdk import told
from tests.sdk.conftest import PARTNER, Network, Server
from wire.access import MessageRefused
from wire.booking import (
    BookingEnded,
    BookingPlaced,
    BookingRefused,
    BookingSettled,
    ClusterReady,
    GetBooking,
    PlaceBooking,
    ReleaseBooking,
)
from wire.ledger import Balance, GetBalance, GetReceipt
from wire.quote import GetQuote, QuoteGiven
from wire.quote import Refused as RefusedReply
from wire.streams import EVENTS, SERVICE_COMMANDS
from wire.values import Reason, Refusal, usd

NO_CAPACITY = Refusal(reason=Reason.no_capacity, detail="Only 1 node is free.", nearest="1 node for 1 h")


async def test_a_quote_or_the_reason_why_there_is_none(client: Client, network: Network) -> None:
    def price(query: GetQuote) -> Any:
        return QuoteGiven(quote=told.QUOTE) if query.request.model == "CPU" else RefusedReply(refusal=NO_CAPACITY)

    await network.answers(GetQuote, price)
    assert await client.quote(told.REQUEST) == told.QUOTE
    with pytest.raises(Refused) as caught:
        await client.quote(cluster(1, "RTX 4090", "1"))
    assert (caught.value.reason, caught.value.nearest) == (Reason.no_capacity, "1 node for 1 h")


async def test_a_booking_from_order_to_receipt(client: Client, network: Network) -> None:
    network.on(PlaceBooking, told.ready)
    network.on(ReleaseBooking, told.settled)
    await network.answers(GetReceipt, told.receipt)
    async with client.book(told.REQUEST, max_total="12.50", quote_id="qte_1") as booking:
        assert booking.view.nodes == (told.HEAD, told.WORKER)
        order = await network.told(PlaceBooking)
        assert (order.max_total, order.quote_id, order.partner) == (usd(12_500_000), "qte_1", PARTNER)
    assert booking.view.over
    kinds = [type(message) async for message in booking.events()]
    assert kinds == [BookingPlaced, ClusterReady, BookingEnded, BookingSettled]
    assert (await client.receipt(booking.booking_id)).uses == (told.USE,)


async def test_an_event_that_comes_twice_is_heard_once(client: Client, network: Network) -> None:
    booking = await client.book(told.REQUEST, max_total="1")
    placed = told.ready(await network.told(PlaceBooking))[0].stamped("msg/placed", 1)
    await network.say(placed, placed, *told.ready(await network.told(PlaceBooking))[1:])
    await booking.ready(5)
    assert [type(message) for message in booking.heard()] == [BookingPlaced, ClusterReady]


async def test_leaving_by_an_exception_releases_too(client: Client, network: Network) -> None:
    network.on(PlaceBooking, told.ready)
    network.on(ReleaseBooking, told.settled)
    await network.answers(GetReceipt, told.receipt)
    with pytest.raises(ZeroDivisionError):
        async with client.book(told.REQUEST, max_total="1"):
            raise ZeroDivisionError
    await network.told(ReleaseBooking)


async def test_a_refused_booking_is_not_released(client: Client, network: Network) -> None:
    network.on(PlaceBooking, lambda order: BookingRefused(**told.ids(order), refusal=NO_CAPACITY))
    with pytest.raises(Refused) as caught:
        async with client.book(told.REQUEST, max_total="1"):
            raise AssertionError("it was never ready")
    assert caught.value.reason is Reason.no_capacity
    assert not [message for message in network.heard if isinstance(message, ReleaseBooking)]


async def test_lost_live_events_are_made_up_for_by_asking(client: Client, network: Network) -> None:
    states: dict[str, Any] = {"state": "ready", "ready_at": 5, "node_ids": (told.HEAD,)}
    await network.answers(GetBooking, lambda query: told.status(query.booking_id, **states))
    await network.answers(GetReceipt, told.receipt)
    booking = await client.book(told.REQUEST, max_total="1", booking_id="bkg_lost")
    booking.poll_seconds = 0.1
    booking._order = None
    assert (await booking.ready(5)).nodes == (told.HEAD,)
    states.update(state="settled")
    assert (await booking.release(5)).cost == told.USE.cost
    assert [message async for message in booking.events()] == []


async def test_a_lost_refusal_is_made_up_for_by_asking(client: Client, network: Network) -> None:
    await network.answers(GetBooking, lambda query: told.status(query.booking_id, state="refused", refusal=NO_CAPACITY))
    booking = await client.book(told.REQUEST, max_total="1")
    booking.poll_seconds = 0.1
    with pytest.raises(Refused, match="Only 1 node"):
        await booking.ready(5)


async def test_an_order_nobody_knows_of_is_said_again(client: Client, network: Network) -> None:
    """As when the refusal of an invalid order, which leaves no trace, was lost on its way."""
    unknown = RefusedReply(refusal=Refusal(reason=Reason.unknown_booking))
    await network.answers(GetBooking, lambda query: unknown)
    booking = await client.book(told.REQUEST, max_total="1")
    booking.poll_seconds = 0.1
    first = await network.told(PlaceBooking)
    network.on(PlaceBooking, lambda order: BookingRefused(**told.ids(order), refusal=NO_CAPACITY))
    with pytest.raises(Refused):
        await booking.ready(5)
    again = network.heard[-1] if isinstance(network.heard[-1], PlaceBooking) else network.heard[-2]
    assert isinstance(again, PlaceBooking)
    assert again.id != first.id
    assert again.booking_id == first.booking_id


async def test_a_message_that_was_refused_raises_where_one_waits(client: Client, network: Network) -> None:
    def refuse(order: PlaceBooking) -> tuple[MessageRefused, MessageRefused]:
        refusal = Refusal(reason=Reason.id_reused, detail="Another body under this id.")
        ours = MessageRefused(identity=PARTNER, subject_refused="x", message_id=order.id, refusal=refusal)
        foreign = Refusal(reason=Reason.malformed, detail="Somebody else's.")
        return MessageRefused(identity=PARTNER, subject_refused="x", message_id="msg_other", refusal=foreign), ours

    network.on(PlaceBooking, refuse)
    booking = await client.book(told.REQUEST, max_total="1")
    with pytest.raises(Refused, match="Another body"):
        await booking.ready(5)


async def test_the_id_of_another_order_is_noticed(client: Client, network: Network) -> None:
    await network.answers(
        GetBooking,
        lambda query: told.status(query.booking_id, state="ready", ready_at=5, order_digest="0" * 64),
    )
    booking = await client.book(told.REQUEST, max_total="1", booking_id="bkg_taken")
    await booking.status()
    with pytest.raises(Refused) as caught:
        await booking.settled(5)
    assert caught.value.reason is Reason.id_reused


async def test_releasing_what_is_over_is_no_failure(client: Client, network: Network) -> None:
    refusal = Refusal(reason=Reason.already_ended, detail="The booking is settled.")
    state = {"state": "ready", "ready_at": 5}
    await network.answers(GetBooking, lambda query: told.status(query.booking_id, **state))
    await network.answers(GetReceipt, told.receipt)
    booking = await client.booking("bkg_over")
    state.update(state="settled")
    network.on(
        ReleaseBooking,
        lambda order: MessageRefused(identity=PARTNER, subject_refused="x", message_id=order.id, refusal=refusal),
    )
    assert (await booking.release(5)).refunded == usd(616_909)


async def test_waiting_too_long_says_how_it_stands(client: Client, network: Network) -> None:
    network.on(PlaceBooking, lambda order: told.ready(order)[0])
    booking = await client.book(told.REQUEST, max_total="1")
    with pytest.raises(TookTooLong, match="it is placed"):
        await booking.ready(0.3)


async def test_a_command_waits_for_its_stream_and_is_stored_once(client: Client, network: Network) -> None:
    await network.stream.delete_stream(SERVICE_COMMANDS.name)

    async def come_back() -> None:
        await asyncio.sleep(0.7)
        await network.make(SERVICE_COMMANDS)

    returning = asyncio.create_task(come_back())
    began = time.monotonic()
    await client.book(told.REQUEST, max_total="1")
    await returning
    assert 0.6 < time.monotonic() - began < 10
    info = await network.stream.stream_info(SERVICE_COMMANDS.name)
    assert info.state.messages == 1


async def test_a_repeat_of_a_command_is_stored_once_and_another_body_is_not_swallowed(
    client: Client, network: Network
) -> None:
    order = PlaceBooking(id="msg_1", at=1, partner=PARTNER, booking_id="bkg_1", request=told.REQUEST, max_total=usd(1))
    other = PlaceBooking(id="msg_1", at=1, partner=PARTNER, booking_id="bkg_1", request=told.REQUEST, max_total=usd(2))
    for command in (order, order, other):
        await client.connection.publish(command)
    assert (await network.stream.stream_info(SERVICE_COMMANDS.name)).state.messages == 2


async def test_what_no_contract_describes_is_never_sent(client: Client, network: Network) -> None:
    for request, booking_id in ((told.REQUEST, "with spaces"), (cluster(1, "CPU", "1"), "a.b")):
        with pytest.raises(Invalid):
            await client.book(request, max_total="1", booking_id=booking_id)
    for nodes, model, hours in (
        (0, "CPU", "1"),
        (-1, "CPU", "1"),
        (1, "", "1"),
        (1, "CPU", "nan"),
        (10**9, "CPU", "1"),
    ):
        with pytest.raises(Invalid):
            cluster(nodes, model, hours)
    for total in ("0", "-1", "nan", "inf", "1e9", str(10**30)):
        with pytest.raises(Invalid):
            client.book(told.REQUEST, max_total=total)
    assert not network.heard


async def test_nobody_answers(client: Client) -> None:
    with pytest.raises(Unreachable, match="Asking again is safe"):
        await client.connection.ask(GetBalance(identity=PARTNER), Balance, timeout=0.5)


async def test_no_network_there() -> None:
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"No network answers at nats://127\.0\.0\.1:1"):
        await Client.connect("nats://127.0.0.1:1", identity=PARTNER, seed=new_seed())
    assert time.monotonic() - began < 10


async def test_a_server_that_dies_is_waited_for(client: Client, network: Network, nats_server: Server) -> None:
    await network.answers(GetBooking, lambda query: told.status(query.booking_id, state="ready", ready_at=5))
    booking = await client.book(told.REQUEST, max_total="1")
    booking._order = None
    waiting = asyncio.create_task(booking.ready(20))
    await asyncio.sleep(0)
    nats_server.kill()
    await asyncio.sleep(0.3)
    await nats_server.start()
    assert (await waiting).ready_at == 5
    assert (await network.stream.stream_info(EVENTS.name)).config.name == EVENTS.name


async def test_a_connection_that_was_ended_for_good_is_made_anew(client: Client, network: Network) -> None:
    """As when the server ends the user's term: nats-py then never reconnects by itself."""
    booking = await client.book(told.REQUEST, max_total="1")
    booking.poll_seconds = 0.1
    order = await network.told(PlaceBooking)
    assert client.connection._client is not None
    await client.connection._client.close()
    waiting = asyncio.create_task(booking.ready(10))
    while client.connection._client.is_closed:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)
    await network.say(*told.ready(order))
    assert (await waiting).nodes == (told.HEAD, told.WORKER)
