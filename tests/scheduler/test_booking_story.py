"""One booking from the order to the receipt, and every way in which it can end before: on a real PostgreSQL."""

import pytest

from services.scheduler.domain.booking import LeaseState, State, order_digest
from tests.scheduler import builders
from tests.scheduler.driver import Driver, kinds, of, only
from wire.access import MessageRefused
from wire.booking import (
    BookingEnded,
    BookingPlaced,
    BookingRefused,
    BookingSettled,
    ClusterReady,
    EscrowDeclined,
    GetBooking,
    LeaseEnded,
    ListBookings,
    NodesHeld,
    QuoteDeclined,
    ReleaseBooking,
)
from wire.node import GetFleet, StartRayNode, StopRayNode
from wire.quote import Refused
from wire.values import BandwidthTier, Money, Reason, Refusal, usd

HOUR = 3_600_000
RELEASE = ReleaseBooking(partner="acme", booking_id="bkg_1")


async def test_a_booking_from_order_to_receipt(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    order = builders.order()
    held = await driver.hold(order)
    assert held.escrow == builders.quote(order.request).total
    assert held.hold_expires_at == driver.now + driver.limits.hold_ms
    assert len({lease.node_id for lease in held.leases}) == 2

    commands = of(await driver.feed(builders.funded(held)), StartRayNode)
    assert sorted(command.role for command in commands) == ["head", "worker"]
    assert len({command.cluster_token for command in commands}) == 1
    assert {command.lease for command in commands} == set(held.leases)

    driver.now += 5_000
    assert kinds(await driver.feed(builders.started(commands[0]))) == []
    driver.now += 5_000
    ready = only(await driver.feed(builders.started(commands[1])), ClusterReady)
    assert ready.at == driver.now
    assert ready.expires_at == driver.now + HOUR
    assert ready.head_node_id == next(command.node_id for command in commands if command.role == "head")
    booking = await driver.booking()
    assert {lease.started_at for lease in booking.live} == {ready.at}

    driver.now += 60_000
    said = await driver.feed(RELEASE)
    ended = only(said, BookingEnded)
    assert ended.reason == "released"
    assert [(span.ended_at - span.started_at) for span in ended.spans] == [60_000, 60_000]
    assert {message.node_id for message in of(said, StopRayNode)} == {lease.node_id for lease in held.leases}
    assert len(of(said, LeaseEnded)) == 2

    zero = usd(0)
    settled = BookingSettled(
        partner="acme",
        booking_id="bkg_1",
        escrowed=held.escrow,
        cost=zero,
        fee=zero,
        burned=zero,
        refunded=zero,
        uses=(),
    )
    await driver.feed(settled)
    assert (await driver.booking()).state is State.settled


async def test_ids_of_what_is_said_derive_from_the_cause(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    await driver.start(builders.order())
    ids = [message.id for message in driver.said]
    assert len(set(ids)) == len(ids)
    assert all(message.id.startswith("msg_") and message.at for message in driver.said)


async def test_an_order_over_budget_is_told_what_fits(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    order = builders.order(max_total=usd(350_000))
    refused = only(await driver.feed(order, builders.quoted(order)), BookingRefused)
    assert refused.refusal.reason == Reason.over_budget
    assert refused.refusal.nearest == "2 nodes for 1800 seconds or 1 node for 3600 seconds"


async def test_no_capacity_names_the_counts_and_the_nearest(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    await driver.join_nodes(3, bandwidth_tier=BandwidthTier.ultra)
    order = builders.order(bandwidth_tier=BandwidthTier.high_1)
    refused = only(await driver.feed(order, builders.quoted(order)), BookingRefused)
    assert refused.refusal.reason == Reason.no_capacity
    assert "3 nodes of model RTX 4090, 1 of them also bandwidth tier high_1" in refused.refusal.detail
    assert refused.refusal.nearest == "the same with bandwidth tier med_1"
    assert not (await driver.booking()).leases


async def test_a_gang_is_all_or_nothing(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    await driver.hold(builders.order("bkg_1"))
    order = builders.order("bkg_2")
    said = await driver.feed(order, builders.quoted(order))
    assert only(said, BookingRefused).refusal.nearest == "the same with 1 node"
    assert not of(said, NodesHeld)


async def test_a_declined_price_refuses(driver: Driver) -> None:
    order = builders.order()
    refusal = Refusal(reason=Reason.unknown_model, detail="no such model")
    said = await driver.feed(order, QuoteDeclined(partner="acme", booking_id="bkg_1", refusal=refusal))
    assert only(said, BookingRefused).refusal == refusal


async def test_a_declined_escrow_frees_the_nodes(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    await driver.hold(builders.order())
    refusal = Refusal(reason=Reason.insufficient_funds, detail="0.70 USD are missing")
    said = await driver.feed(EscrowDeclined(partner="acme", booking_id="bkg_1", refusal=refusal))
    assert only(said, BookingRefused).refusal == refusal
    assert [ended.started_at for ended in of(said, LeaseEnded)] == [0, 0]
    assert not of(said, StopRayNode)
    await driver.hold(builders.order("bkg_2"))


async def test_the_same_order_again_changes_nothing_another_one_is_refused(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    order = builders.order()
    only(await driver.feed(order), BookingPlaced)
    assert await driver.feed(order) == []
    before = await driver.booking()
    refused = only(await driver.feed(builders.order(nodes=1)), MessageRefused)
    assert refused.identity == "acme"
    assert refused.refusal.reason == Reason.id_reused
    assert await driver.booking() == before
    # The id is the partner's own: another partner's booking of that name is another booking.
    only(await driver.feed(builders.order(partner="globex")), BookingPlaced)


@pytest.mark.parametrize("max_total", [usd(0), Money(5, "RENDER"), Money(5, "COUPON")])
async def test_a_total_that_makes_no_sense_is_refused_once(driver: Driver, max_total: Money) -> None:
    said = await driver.feed(builders.order(max_total=max_total))
    assert only(said, BookingRefused).refusal.reason == Reason.out_of_range
    assert kinds(said) == ["BookingRefused"]


async def test_more_nodes_than_a_message_can_carry_are_refused(driver: Driver) -> None:
    said = await driver.feed(builders.order(nodes=driver.limits.nodes_max + 1))
    assert only(said, BookingRefused).refusal.nearest.startswith(f"{driver.limits.nodes_max} nodes")


async def test_nobody_releases_what_is_not_his(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    await driver.run(builders.order())
    said = await driver.feed(ReleaseBooking(partner="globex", booking_id="bkg_1"))
    refused = only(said, MessageRefused)
    assert (refused.identity, refused.refusal.reason) == ("globex", Reason.unknown_booking)
    assert (await driver.booking()).state is State.ready


async def test_release_in_every_state(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    await driver.feed(builders.order("placed"))
    assert only(await driver.feed(release("placed")), BookingEnded).spans == ()

    await driver.hold(builders.order("held"))
    said = await driver.feed(release("held"))
    assert [(span.started_at, span.lease.fence) for span in only(said, BookingEnded).spans] == [(0, 1), (0, 1)]
    assert not of(said, StopRayNode)

    await driver.start(builders.order("starting"))
    said = await driver.feed(release("starting"))
    assert all(span.started_at == 0 for span in only(said, BookingEnded).spans)
    assert len(of(said, StopRayNode)) == 2

    await driver.run(builders.order("ready"))
    only(await driver.feed(release("ready")), BookingEnded)
    for booking_id in ("placed", "held", "starting", "ready"):
        again = only(await driver.feed(release(booking_id)), MessageRefused)
        assert again.refusal.reason == Reason.already_ended
        assert not (await driver.booking(booking_id)).live


def release(booking_id: str) -> ReleaseBooking:
    return ReleaseBooking(partner="acme", booking_id=booking_id)


async def test_escrow_that_comes_after_the_end_is_paid_back(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    held = await driver.hold(builders.order("released"))
    first = only(await driver.feed(release("released")), BookingEnded)
    again = only(await driver.feed(builders.funded(held)), BookingEnded)
    assert (again.reason, again.spans) == (first.reason, first.spans)

    held = await driver.hold(builders.order("unfunded"))
    said = await driver.wait(driver.limits.hold_ms)
    assert only(said, BookingRefused).refusal.reason == Reason.no_answer
    assert only(await driver.feed(builders.funded(held)), BookingEnded).reason == "refused"


async def test_a_price_that_never_comes(driver: Driver) -> None:
    order = builders.order()
    await driver.feed(order)
    assert await driver.wait(driver.limits.start_ms - 1) == []
    assert only(await driver.wait(1), BookingRefused).refusal.reason == Reason.no_answer
    assert await driver.feed(builders.quoted(order)) == []


async def test_a_cluster_that_does_not_start_is_refunded_whole(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    commands = await driver.start(builders.order())
    await driver.feed(builders.started(commands[0]))
    ended = only(await driver.wait(driver.limits.start_ms), BookingEnded)
    assert ended.reason == "cluster_failed"
    assert ended.refusal is not None
    assert commands[1].node_id in ended.refusal.detail
    assert all(span.started_at == 0 for span in ended.spans)


async def test_a_booking_expires_and_is_not_billed_beyond(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    ready = await driver.run(builders.order())
    assert await driver.wait(HOUR - 1) == []
    ended = only(await driver.wait(5_000), BookingEnded)
    assert ended.reason == "expired"
    assert [span.ended_at for span in ended.spans] == [ready.expires_at] * 2
    assert await driver.wait(5_000) == []


async def test_questions_are_answered(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    order = builders.order()
    ready = await driver.run(order)
    status = await driver.ask(GetBooking(partner="acme", booking_id="bkg_1"))
    assert getattr(status, "order_digest", "") == order_digest(order)
    assert getattr(status, "head_node_id", "") == ready.head_node_id
    listed = await driver.ask(ListBookings(partner="acme"))
    assert getattr(listed, "bookings", ()) == (status,)
    stranger = await driver.ask(GetBooking(partner="globex", booking_id="bkg_1"))
    assert isinstance(stranger, Refused)
    fleet = await driver.ask(GetFleet(identity="acme"))
    assert sorted(node.state for node in getattr(fleet, "nodes", ())) == ["free", "leased", "leased"]


async def test_leases_are_never_live_in_a_booking_that_is_over(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    await driver.run(builders.order())
    await driver.feed(RELEASE)
    booking = await driver.booking()
    assert [lease.state for lease in booking.leases] == [LeaseState.ended] * 2
    assert booking.head is None
