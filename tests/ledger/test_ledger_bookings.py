"""The life of a booking's money, message by message, on a real database."""

import asyncio
import itertools

import msgspec
import pytest

from services.ledger.domain.funding import dollars
from tests.ledger.builders import (
    BOOKING,
    HOUR,
    HOURLY,
    PARTNER,
    T0,
    Desk,
    booking_ended,
    deposit,
    escrow_for,
    held,
    lease,
    lease_ended,
    node,
    only,
    replaced,
    span,
)
from wire.access import MessageRefused
from wire.booking import BookingSettled, EscrowDeclined, EscrowFunded, GapRefunded, LeaseCharged
from wire.ledger import Balance, DepositBooked, GetBalance, GetReceipt, Receipt
from wire.message import Message
from wire.quote import Refused
from wire.values import AMOUNT_MAX, Money, Reason, usd

WALLET, ESCROW = f"wallet:{PARTNER}", f"escrow:{PARTNER}/{BOOKING}"


async def test_a_deposit_fills_the_wallet_once(desk: Desk) -> None:
    booked = only(await desk.hand_in(deposit(5_000_000)), DepositBooked)
    assert (booked.amount, booked.wallet) == (usd(5_000_000), usd(5_000_000))
    again = only(await desk.hand_in(deposit(5_000_000)), DepositBooked)
    assert again.wallet == usd(5_000_000)
    assert await desk.balance(WALLET) == 5_000_000
    assert await desk.balance("bank") == -5_000_000
    assert await desk.ask(GetBalance(identity=PARTNER)) == Balance(wallet=usd(5_000_000), in_escrow=usd(0))
    assert await desk.ask(GetBalance(identity="nobody")) == Balance(wallet=usd(0), in_escrow=usd(0))


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (deposit(6_000_000), Reason.id_reused),
        (deposit(5_000_000, partner="globex"), Reason.id_reused),
        (deposit(0, "pay_2"), Reason.out_of_range),
        (deposit(AMOUNT_MAX, "pay_2"), Reason.out_of_range),
        (msgspec.structs.replace(deposit(1, "pay_2"), amount=Money(1, "RENDER")), Reason.malformed),
        (msgspec.structs.replace(deposit(1), amount=Money(5_000_000, "COUPON")), Reason.id_reused),
    ],
)
async def test_a_deposit_that_makes_no_sense_is_refused(desk: Desk, told: Message, reason: Reason) -> None:
    await desk.hand_in(deposit(5_000_000))
    before = await desk.balances()
    refused = only(await desk.hand_in(told), MessageRefused)
    assert (refused.identity, refused.refusal.reason) == ("ops", reason)
    assert refused.subject_refused == told.subject()
    assert await desk.balances() == before


async def test_all_partners_together_cannot_overflow_the_bank(desk: Desk) -> None:
    await desk.hand_in(deposit(AMOUNT_MAX))
    refused = only(await desk.hand_in(deposit(1, "pay_2", "globex")), MessageRefused)
    assert refused.refusal.reason is Reason.out_of_range
    assert (await desk.audit()).passed


async def test_escrow_is_funded_whole_or_not_at_all(desk: Desk) -> None:
    need = escrow_for(2, HOUR)
    await desk.hand_in(deposit(need - 1))
    declined = only(await desk.hand_in(held()), EscrowDeclined)
    assert declined.refusal.reason is Reason.insufficient_funds
    assert dollars(1) in declined.refusal.nearest
    assert "1 of 2 nodes" in declined.refusal.nearest
    assert "59 minutes" in declined.refusal.nearest
    assert await desk.balances() == {**await desk.balances(), WALLET: need - 1}
    receipt = await desk.ask(GetReceipt(identity=PARTNER, booking_id=BOOKING))
    assert isinstance(receipt, Receipt)
    assert (receipt.state, receipt.escrowed) == ("declined", usd(0))
    await desk.hand_in(deposit(1, "pay_2"))
    assert only(await desk.hand_in(held()), EscrowDeclined).refusal == declined.refusal, "what was declined stays so"
    funded = only(await desk.hand_in(held(booking="bkg_8")), EscrowFunded)
    assert (funded.amount, funded.wallet_left) == (usd(need), usd(0))
    assert await desk.ask(GetBalance(identity=PARTNER)) == Balance(wallet=usd(0), in_escrow=usd(need))


async def test_a_hold_is_answered_the_same_again_and_another_one_is_refused(desk: Desk) -> None:
    await desk.hand_in(deposit(10_000_000))
    assert only(await desk.hand_in(held()), EscrowFunded).wallet_left == usd(10_000_000 - 2 * HOURLY)
    before = await desk.balances()
    assert only(await desk.hand_in(held()), EscrowFunded).amount == usd(2 * HOURLY)
    for other in (held(escrow=usd(1)), held(leases=(lease(5), lease(6)))):
        refused = only(await desk.hand_in(other), MessageRefused)
        assert (refused.identity, refused.refusal.reason) == (PARTNER, Reason.id_reused)
    assert await desk.balances() == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"escrow": usd(0)}, Reason.out_of_range),
        ({"escrow": Money(5, "RENDER")}, Reason.malformed),
        ({"hold_expires_at": T0}, Reason.already_ended),
    ],
)
async def test_a_hold_that_makes_no_sense_is_declined(desk: Desk, change: dict[str, object], reason: Reason) -> None:
    await desk.hand_in(deposit(10_000_000))
    assert only(await desk.hand_in(held(**change)), EscrowDeclined).refusal.reason is reason  # type: ignore[arg-type]
    assert await desk.balance(WALLET) == 10_000_000


async def test_a_lease_is_charged_five_and_ninety_five(desk: Desk) -> None:
    await desk.hand_in(deposit(10_000_000), held())
    charged = only(await desk.hand_in(lease_ended(span(0, T0, T0 + HOUR // 3))), LeaseCharged)
    cost = HOURLY // 3
    assert (charged.use.cost, charged.use.billed_ms) == (usd(cost), HOUR // 3)
    assert charged.use.burned == usd(cost * 95 // 100)
    assert charged.use.fee == usd(cost - cost * 95 // 100)
    assert charged.use.coupons == Money(cost * 95 // 100, "COUPON")
    assert await desk.balance("fee") == charged.use.fee.amount
    assert await desk.balance("usd_market") == charged.use.burned.amount
    assert await desk.balance("burned") == charged.use.burned.amount * 10**8 // 4_000_000
    assert await desk.balance(f"coupon:{node(0)}/0") == charged.use.coupons.amount
    assert await desk.balance(ESCROW) == 2 * HOURLY - cost
    before = await desk.balances()
    assert await desk.hand_in(lease_ended(span(0, T0, T0 + HOUR // 3))) == []
    tampered = only(await desk.hand_in(lease_ended(span(0, T0, T0 + HOUR))), MessageRefused)
    assert tampered.refusal.reason is Reason.id_reused
    assert await desk.balances() == before


async def test_what_did_not_run_is_not_charged(desk: Desk) -> None:
    await desk.hand_in(deposit(10_000_000), held())
    assert await desk.hand_in(lease_ended(span(0, 0, T0 + HOUR))) == []
    settled = only(await desk.hand_in(booking_ended([span(0, 0, T0 + HOUR), span(1, 0, T0 + HOUR)])), BookingSettled)
    assert (settled.cost, settled.refunded, settled.uses) == (usd(0), usd(2 * HOURLY), ())
    assert await desk.balance(WALLET) == 10_000_000


async def test_a_gap_goes_back_to_the_wallet_and_the_promise_is_kept(desk: Desk) -> None:
    await desk.hand_in(deposit(10_000_000), held())
    await desk.hand_in(lease_ended(span(0, T0, T0 + HOUR // 4), reason="node_lost"))
    refunded = only(await desk.hand_in(replaced(2, 60_000)), GapRefunded)
    assert refunded.amount == usd(HOURLY * 60_000 // HOUR)
    assert await desk.hand_in(replaced(2, 60_000)) == []
    assert only(await desk.hand_in(replaced(2, 61_000)), MessageRefused).refusal.reason is Reason.id_reused
    spans = [span(0, T0, T0 + HOUR // 4), span(1, T0, T0 + HOUR), span(2, T0 + HOUR // 4 + 60_000, T0 + HOUR)]
    settled = only(await desk.hand_in(booking_ended(spans)), BookingSettled)
    assert [use.billed_ms for use in settled.uses] == [HOUR // 4, HOUR, 3 * HOUR // 4 - 60_000]
    assert settled.escrowed.amount == settled.cost.amount + settled.refunded.amount
    assert settled.refunded.amount - refunded.amount.amount in (0, 1, 2), "only what rounding down left"


async def test_a_gap_never_takes_what_running_leases_were_promised(desk: Desk) -> None:
    await desk.hand_in(deposit(10_000_000), held())
    assert await desk.hand_in(replaced(2, 60_000)) == [], "no lease of the gang has ended: nothing is free yet"
    said = await desk.hand_in(lease_ended(span(0, T0, T0 + HOUR // 4), reason="node_lost"))
    assert only(said, GapRefunded).amount == usd(HOURLY // 60)
    assert await desk.hand_in(replaced(3, 2 * HOUR)) == [], "more than its place ever had"
    spans = [span(0, T0, T0 + HOUR // 4), span(1, T0, T0 + HOUR)]
    settled = only(await desk.hand_in(booking_ended(spans)), BookingSettled)
    assert settled.refunded == usd(2 * HOURLY - HOURLY // 4 - HOURLY)


async def test_a_booking_without_escrow_settles_at_nothing(desk: Desk) -> None:
    settled = only(await desk.hand_in(booking_ended([])), BookingSettled)
    assert (settled.escrowed, settled.cost, settled.refunded) == (usd(0), usd(0), usd(0))
    await desk.hand_in(deposit(10_000_000))
    assert only(await desk.hand_in(held()), EscrowDeclined).refusal.reason is Reason.already_ended
    assert only(await desk.hand_in(lease_ended(span(9, T0, T0 + 1))), MessageRefused).refusal.reason is (
        Reason.already_ended
    )
    assert await desk.balance(WALLET) == 10_000_000


async def test_a_lease_that_ended_too_late_takes_no_more_than_is_left(desk: Desk) -> None:
    await desk.hand_in(deposit(10_000_000), held(nodes=1))
    charged = only(await desk.hand_in(lease_ended(span(0, T0, T0 + 2 * HOUR))), LeaseCharged)
    assert charged.use.cost == usd(HOURLY)
    assert charged.use.cost.amount == HOURLY * charged.use.billed_ms // HOUR
    assert await desk.balance(ESCROW) == 0


async def test_any_order_and_repeats_come_to_the_same(desk: Desk) -> None:
    """Every order of hold, lease ends, gap and booking end, each message twice, in one ledger each by its booking."""
    quarter, end = HOUR // 4, T0 + HOUR
    spans = [span(0, T0, T0 + quarter), span(1, T0, end), span(2, T0 + quarter + 9_000, end)]
    results = set()
    for number, order in enumerate(itertools.permutations(range(4))):
        partner = f"p{number}"
        await desk.hand_in(deposit(10_000_000, f"pay_{number}", partner))
        messages = [
            held(partner=partner),
            lease_ended(spans[0], partner=partner),
            replaced(2, 9_000, partner=partner),
            booking_ended(spans, partner=partner),
        ]
        for position in order:
            await desk.hand_in(messages[position])
        for position in reversed(order):
            await desk.hand_in(messages[position])
        receipt = await desk.ask(GetReceipt(identity=partner, booking_id=BOOKING))
        assert isinstance(receipt, Receipt)
        uses = tuple(sorted((use.lease_id, use.cost.amount) for use in receipt.uses))
        results.add((receipt.state, receipt.cost, receipt.fee, receipt.burned, receipt.refunded, uses))
        assert await desk.balance(f"wallet:{partner}") == 10_000_000 - receipt.cost.amount
    assert len(results) == 1
    assert (await desk.audit()).passed


async def test_nobody_reads_the_receipt_of_another(desk: Desk) -> None:
    await desk.hand_in(deposit(10_000_000), held())
    receipt = await desk.ask(GetReceipt(identity=PARTNER, booking_id=BOOKING))
    assert isinstance(receipt, Receipt)
    assert (receipt.state, receipt.remaining) == ("funded", usd(2 * HOURLY))
    refused = await desk.ask(GetReceipt(identity="globex", booking_id=BOOKING))
    assert isinstance(refused, Refused)
    assert refused.refusal.reason is Reason.unknown_booking


async def test_two_partners_may_call_their_bookings_the_same(desk: Desk) -> None:
    await desk.hand_in(deposit(10_000_000), deposit(10_000_000, "pay_2", "globex"))
    await desk.hand_in(held(), held(partner="globex"))
    await desk.hand_in(booking_ended([span(0, T0, T0 + HOUR)]))
    assert await desk.balance("escrow:globex/" + BOOKING) == 2 * HOURLY
    assert await desk.balance(ESCROW) == 0


async def test_two_replicas_share_a_wallet_without_a_deadlock_or_an_overdraft(desk: Desk) -> None:
    """Both fund bookings from one wallet and settle them; the wallet covers fewer than they ask for."""
    need = escrow_for(2, HOUR)
    await desk.hand_in(deposit(7 * need))
    other = Desk(desk.url, desk.settings)
    await other.open()
    other.handed = 1000

    async def serve(replica: Desk, names: str) -> int:
        funded = 0
        for name in names:
            said = await replica.hand_in(held(booking=f"bkg_{name}"))
            funded += any(isinstance(message, EscrowFunded) for message in said)
        for name in names:
            await replica.hand_in(booking_ended([span(0, T0, T0 + HOUR // 3)], booking=f"bkg_{name}"))
        return funded

    funded = await asyncio.gather(serve(desk, "abcdef"), serve(other, "fghijk"))
    assert sum(funded) >= 7
    await other.close()
    assert await desk.balance(WALLET) == 7 * need - await desk.balance("fee") - await desk.balance("usd_market")
    assert (await desk.audit()).passed
