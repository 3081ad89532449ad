"""What the ledger answers: balances, receipts, statements, and the auditor's report; ends with its table."""

from libs.bus.service import Answer
from services.ledger import audit
from services.ledger.domain import account
from services.ledger.store import Rows, Totals
from wire.ledger import (
    AuditCheck,
    AuditReport,
    Balance,
    GetAudit,
    GetBalance,
    GetReceipt,
    GetStatement,
    Receipt,
    Statement,
)
from wire.message import Query
from wire.quote import Refused
from wire.values import Money, Reason, Refusal, usd


async def give_balance(asked: GetBalance, rows: Rows) -> Balance:
    """Of whoever asks; nothing, for one who never paid in."""
    (wallet,) = await rows.balances(account.wallet(asked.identity))
    return Balance(wallet=usd(wallet), in_escrow=usd(await rows.in_escrow(asked.identity)))


async def give_receipt(asked: GetReceipt, rows: Rows) -> Receipt | Refused:
    """Of a booking of one's own: bookings are known by partner and id, so nobody sees another's."""
    totals = await rows.totals(asked.identity, asked.booking_id)
    if totals is None:
        detail = f"{asked.identity} has no booking {asked.booking_id} in the ledger."
        return Refused(refusal=Refusal(reason=Reason.unknown_booking, detail=detail))
    uses = await rows.uses_of_booking(asked.identity, asked.booking_id)
    return Receipt(
        booking_id=asked.booking_id,
        state=_state(totals),
        escrowed=usd(totals.escrowed),
        cost=usd(totals.fee + totals.burned),
        fee=usd(totals.fee),
        burned=usd(totals.burned),
        refunded=usd(totals.refunded),
        remaining=usd(totals.remaining),
        uses=uses.listed,
        uses_left_out=uses.left_out,
    )


async def give_statement(asked: GetStatement, rows: Rows) -> Statement | Refused:
    closed = await rows.closed_epoch(asked.epoch)
    if closed is None:
        detail = "No epoch is closed yet." if asked.epoch is None else f"Epoch {asked.epoch} is not closed."
        return Refused(refusal=Refusal(reason=Reason.epoch_open, detail=detail))
    epoch = closed["number"]
    (balance,) = await rows.balances(account.pay(asked.node_id))
    uses = await rows.uses_of_node(asked.node_id, epoch)
    return Statement(
        epoch=epoch,
        reward=await rows.reward(epoch, asked.node_id),
        uses=uses.listed,
        uses_left_out=uses.left_out,
        all_coupons=Money(closed["coupons"], "COUPON"),
        all_scores_millionths=int(closed["scores"]),
        all_weights=str(int(closed["weights"])),
        emission=Money(closed["emission"], "RENDER"),
        usd_compute=usd(closed["usd_compute"]),
        usd_render=usd(closed["usd_render"]),
        compute_pool=Money(closed["compute_pool"], "RENDER"),
        availability_pool=Money(closed["availability_pool"], "RENDER"),
        compute_carried_in=Money(closed["compute_carried_in"], "RENDER"),
        availability_carried_in=Money(closed["availability_carried_in"], "RENDER"),
        balance=Money(balance, "RENDER"),
    )


async def give_audit(_asked: GetAudit, rows: Rows) -> AuditReport:
    report = await audit.audit(rows.connection)
    return AuditReport(
        passed=report.passed,
        transfers=report.transfers,
        head=report.head,
        checks=tuple(AuditCheck(name=c.name, holds=not c.broken, detail=c.detail[:2000]) for c in report.checks),
    )


def refuse_query(subject: str, reason: str, detail: str) -> Refused:
    """What the bus answers to a query that is none."""
    return Refused(refusal=Refusal(reason=Reason(reason), detail=detail[:2000]))


def _state(totals: Totals) -> str:
    if totals.escrow == "declined":
        return "declined"
    if totals.ended:
        return "settled"
    return "funded" if totals.escrow == "funded" else "open"


ANSWERS: dict[type[Query], Answer] = {
    GetBalance: give_balance,
    GetReceipt: give_receipt,
    GetStatement: give_statement,
    GetAudit: give_audit,
}
