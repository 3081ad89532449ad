"""What the ledger does on each message: load, decide, post and say, all in one transaction."""

import hashlib
from collections.abc import Sequence

from libs.bus.service import Every, Handler
from services.ledger import answers
from services.ledger.domain import account, burn, funding, settlement, transfer
from services.ledger.domain.epoch import Score
from services.ledger.domain.rewards import rnp004
from services.ledger.domain.settlement import Facts, Gap
from services.ledger.domain.transfer import Escrow, Transfer
from services.ledger.payday import close_epoch, close_when_due, publish_head
from services.ledger.store import Rows
from wire.access import MessageRefused
from wire.booking import (
    BookingEnded,
    BookingEvent,
    BookingSettled,
    EscrowDeclined,
    EscrowFunded,
    GapRefunded,
    LeaseCharged,
    LeaseEnded,
    LeaseSpan,
    NodesHeld,
    ReplacementReady,
)
from wire.ledger import CloseEpoch, Deposit, DepositBooked
from wire.message import Message, derived_id
from wire.probe import ProbeFailed, ProbePassed
from wire.values import LeaseUse, Reason, Refusal, usd

SCORE_MAX = 10**15
"""A billion reference nodes: whatever a node claims, sums of scores stay within 64 bits."""


async def book_deposit(deposit: Deposit, rows: Rows) -> None:
    """One payment is booked once; told again it is confirmed again, told otherwise it is refused."""
    await rows.alone()
    asset, amount = deposit.amount.asset, deposit.amount.amount
    wallet, bank = await rows.balances(account.wallet(deposit.partner), account.BANK)
    booked = await rows.deposited(deposit.reference)
    said = DepositBooked(
        partner=deposit.partner, amount=deposit.amount, wallet=usd(wallet), reference=deposit.reference
    )
    if booked == (account.wallet(deposit.partner).id, amount) and asset == "USD":
        rows.say(said)
    elif booked is not None:
        detail = f"The payment {deposit.reference} was booked before, for another partner or amount."
        rows.say(_refused(deposit, deposit.operator, Refusal(reason=Reason.id_reused, detail=detail)))
    elif (refusal := funding.deposit_refusal(asset, amount, wallet, bank)) is not None:
        rows.say(_refused(deposit, deposit.operator, refusal))
    else:
        event = derived_id(f"{deposit.partner}/deposit/{deposit.reference}", DepositBooked.verb())
        epoch = await rows.running_epoch()
        await rows.post(epoch.number, [transfer.deposit(deposit.partner, deposit.reference, amount, event)])
        rows.say(
            DepositBooked(
                id=event,
                partner=deposit.partner,
                amount=deposit.amount,
                wallet=usd(wallet + amount),
                reference=deposit.reference,
            )
        )


async def fund_escrow(held: NodesHeld, rows: Rows) -> None:
    """Wallet → escrow, once for a booking; whatever is known of its leases by then is booked with it."""
    facts = await rows.booking(held.partner, held.booking_id)
    (wallet,) = await rows.balances(account.wallet(held.partner))
    if facts.escrow != "none":
        rows.say(_decided_before(held, facts, wallet))
        return
    refusal = funding.refusal(held, wallet, rows.now, facts.ended, facts.owes)
    await rows.decide_escrow(held, refusal)
    if refusal is not None:
        rows.say(EscrowDeclined(partner=held.partner, booking_id=held.booking_id, refusal=refusal))
        return
    escrow = Escrow(held.partner, held.booking_id)
    amount = held.escrow.amount
    rows.say(
        EscrowFunded(
            id=escrow.event(EscrowFunded.verb()),
            partner=held.partner,
            booking_id=held.booking_id,
            amount=held.escrow,
            wallet_left=usd(wallet - amount),
        )
    )
    await _settle(facts.funded(amount, held.leases), escrow, rows, hold=amount)


async def charge_lease(ended: LeaseEnded, rows: Rows) -> None:
    """A lease that has run is charged as soon as there is an escrow to charge it to."""
    span = LeaseSpan(lease=ended.lease, started_at=ended.started_at, ended_at=ended.ended_at)
    facts = await rows.booking(ended.partner, ended.booking_id)
    if facts.ended and facts.span(span.lease.lease_id) is None:
        detail = f"The booking had ended without the lease {span.lease.lease_id}."
        rows.say(_refused(ended, ended.partner, Refusal(reason=Reason.already_ended, detail=detail)))
        return
    learned = await _learn(ended, facts, [span], rows)
    if learned:
        await _settle(facts.learned(learned), Escrow(ended.partner, ended.booking_id), rows)


async def refund_gap(ready: ReplacementReady, rows: Rows) -> None:
    """The seconds in which a place stood empty go back to the wallet; after the end they have gone back already."""
    facts = await rows.booking(ready.partner, ready.booking_id)
    gap = Gap(ready.lease.lease_id, ready.lease.hourly.amount, ready.gap_ms)
    known = facts.gap(gap.lease_id)
    if known is not None and known != gap:
        detail = f"The gap before the lease {gap.lease_id} was said to be another one before."
        rows.say(_refused(ready, ready.partner, Refusal(reason=Reason.id_reused, detail=detail)))
    elif known is None and not facts.ended:
        await rows.record_gap(ready.partner, ready.booking_id, gap)
        await _settle(facts.learned(gaps=[gap]), Escrow(ready.partner, ready.booking_id), rows)


async def settle_booking(ended: BookingEnded, rows: Rows) -> None:
    """Charge what is not charged yet, refund the rest, say the receipt; also where there never was an escrow."""
    facts = await rows.booking(ended.partner, ended.booking_id)
    escrow = Escrow(ended.partner, ended.booking_id)
    if facts.ended:
        await _say_receipt(escrow, rows)
        return
    learned = await _learn(ended, facts, ended.spans, rows)
    await _settle(facts.learned(learned, ended=True), escrow, rows)


async def score_pass(probe: ProbePassed, rows: Rows) -> None:
    score = Score(rnp004.weight(probe.readings), min(probe.score_millionths, SCORE_MAX))
    await rows.alone()
    await rows.record_probe(probe.node_id, probe.probe_id, (await rows.running_epoch()).number, True, score)


async def score_failure(probe: ProbeFailed, rows: Rows) -> None:
    await rows.alone()
    await rows.record_probe(probe.node_id, probe.probe_id, (await rows.running_epoch()).number, False, Score(0, 0))


def refuse(subject: str, message_id: str, body: bytes, reason: str, detail: str) -> MessageRefused:
    """What the bus says of a message that is none; the third token of a subject is who may publish there."""
    return MessageRefused(
        identity=subject.split(".")[2],
        subject_refused=subject,
        message_id=message_id[:200],
        body_digest=hashlib.sha256(body).hexdigest(),
        refusal=Refusal(reason=Reason(reason), detail=detail[:2000]),
    )


async def _learn(told: BookingEvent, facts: Facts, spans: Sequence[LeaseSpan], rows: Rows) -> list[LeaseSpan]:
    """Record what is new about leases, and return it; the first word on each stands, another one is refused."""
    known = {span.lease.lease_id: span for span in facts.spans}
    fresh: list[LeaseSpan] = []
    for span in spans:
        lease_id = span.lease.lease_id
        if lease_id not in known:
            known[lease_id] = span
            fresh.append(span)
        elif known[lease_id] != span:
            detail = f"The lease {lease_id} was said to have ended otherwise before."
            rows.say(_refused(told, told.partner, Refusal(reason=Reason.id_reused, detail=detail)))
    if fresh:
        await rows.record_spans(told.partner, told.booking_id, fresh)
    return fresh


async def _settle(facts: Facts, escrow: Escrow, rows: Rows, hold: int = 0) -> None:
    """Book what the booking owes by these facts: all in one statement, so that no invariant is broken in between."""
    if facts.escrow == "funded":
        due = settlement.due(facts)
        receipt = derived_id(rows.cause_id, BookingSettled.verb())
        epoch = (await rows.running_epoch()).number
        charges = [(use, burn.render_for(use.burned.amount, rows.settings.render_usd_micros)) for use in due.charges]
        transfers: list[Transfer] = [escrow.hold(hold)] if hold else []
        for use, render in charges:
            transfers += escrow.charge(use, render, epoch)
        transfers += [escrow.void_gap(gap.lease_id, gap.amount) for gap in due.gaps]
        transfers += transfer.moving([escrow.void(due.refund, receipt)])
        await rows.post(epoch, transfers)
        if charges:
            await rows.record_charges(escrow.partner, escrow.booking, epoch, charges)
        if due.gaps:
            await rows.record_gap_refunds(escrow.partner, escrow.booking, due.gaps)
        _say_due(escrow, due.charges, due.gaps, rows)
    if facts.ended:
        await rows.end_booking(escrow.partner, escrow.booking)
        await _say_receipt(escrow, rows)


def _say_due(escrow: Escrow, charges: Sequence[LeaseUse], gaps: Sequence[Gap], rows: Rows) -> None:
    for use in charges:
        event = escrow.event(LeaseCharged.verb(), use.lease_id)
        rows.say(LeaseCharged(id=event, partner=escrow.partner, booking_id=escrow.booking, use=use))
    for gap in gaps:
        rows.say(
            GapRefunded(
                id=escrow.event(GapRefunded.verb(), gap.lease_id),
                partner=escrow.partner,
                booking_id=escrow.booking,
                lease_id=gap.lease_id,
                gap_ms=gap.gap_ms,
                amount=usd(gap.amount),
            )
        )


async def _say_receipt(escrow: Escrow, rows: Rows) -> None:
    totals = await rows.totals(escrow.partner, escrow.booking)
    assert totals is not None, "the booking was opened"
    uses = await rows.uses_of_booking(escrow.partner, escrow.booking)
    rows.say(
        BookingSettled(
            id=derived_id(rows.cause_id, BookingSettled.verb()),
            partner=escrow.partner,
            booking_id=escrow.booking,
            escrowed=usd(totals.escrowed),
            cost=usd(totals.fee + totals.burned),
            fee=usd(totals.fee),
            burned=usd(totals.burned),
            refunded=usd(totals.refunded),
            uses=uses.listed,
            uses_left_out=uses.left_out,
        )
    )


def _decided_before(held: NodesHeld, facts: Facts, wallet: int) -> Message:
    """The same hold gets the same answer again; another one under the same booking is refused."""
    if (held.escrow, held.leases) != (usd(facts.asked), facts.gang):
        detail = "The escrow of this booking was decided before, for other leases or another amount."
        return _refused(held, held.partner, Refusal(reason=Reason.id_reused, detail=detail))
    if facts.refusal is not None:
        return EscrowDeclined(partner=held.partner, booking_id=held.booking_id, refusal=facts.refusal)
    return EscrowFunded(partner=held.partner, booking_id=held.booking_id, amount=held.escrow, wallet_left=usd(wallet))


def _refused(message: Message, identity: str, refusal: Refusal) -> MessageRefused:
    return MessageRefused(identity=identity, subject_refused=message.subject(), message_id=message.id, refusal=refusal)


HANDLES: dict[type[Message], Handler] = {
    Deposit: book_deposit,
    NodesHeld: fund_escrow,
    LeaseEnded: charge_lease,
    ReplacementReady: refund_gap,
    BookingEnded: settle_booking,
    ProbePassed: score_pass,
    ProbeFailed: score_failure,
    CloseEpoch: close_epoch,
}
ANSWERS = answers.ANSWERS
EVERY = [
    Every(seconds=1.0, task=close_when_due, name="close_epoch"),
    Every(seconds=60.0, task=publish_head, name="publish_head"),
]
