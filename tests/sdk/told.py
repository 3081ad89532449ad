"""What a network says of one booking, for tests to say it in its place."""

from typing import Any

from wire.booking import (
    BookingEnded,
    BookingPlaced,
    BookingSettled,
    BookingStatus,
    ClusterReady,
    PlaceBooking,
    ReleaseBooking,
)
from wire.job import Artefact, JobAccepted, JobFinished, JobLog, SubmitJob
from wire.ledger import GetReceipt, Receipt
from wire.message import Message
from wire.quote import Quote
from wire.values import ClusterRequest, LeaseUse, Money, QuoteLine, usd

HEAD, WORKER = "U" + "A" * 55, "U" + "B" * 55
REQUEST = ClusterRequest(nodes=2, model="CPU", duration_seconds=3600)
QUOTE = Quote(
    quote_id="qte_1",
    request=REQUEST,
    lines=(QuoteLine(name="base", why="msrp over 180 days", numerator=1, denominator=1, amount=usd(312_500)),),
    hourly=usd(312_500),
    total=usd(625_000),
    issued_at=1,
    expires_at=2,
)
USE = LeaseUse(
    lease_id="lse_1",
    node_id=HEAD,
    hourly=usd(312_500),
    billed_ms=93_210,
    cost=usd(8091),
    fee=usd(405),
    burned=usd(7686),
    coupons=Money(7686, "COUPON"),
)


def ids(message: Any) -> dict[str, Any]:
    return {"partner": message.partner, "booking_id": message.booking_id}


def ready(order: PlaceBooking) -> tuple[Message, ...]:
    return (
        BookingPlaced(**ids(order), request=order.request, max_total=order.max_total),
        ClusterReady(**ids(order), head_node_id=HEAD, node_ids=(HEAD, WORKER), expires_at=9),
    )


def settled(order: ReleaseBooking) -> tuple[Message, ...]:
    money: dict[str, Any] = {
        "escrowed": usd(625_000),
        "refunded": usd(616_909),
        "cost": USE.cost,
        "fee": USE.fee,
        "burned": USE.burned,
    }
    return (
        BookingEnded(**ids(order), reason="released", spans=()),
        BookingSettled(**ids(order), uses=(USE,), **money),
    )


def receipt(query: GetReceipt) -> Receipt:
    return Receipt(
        booking_id=query.booking_id,
        state="settled",
        escrowed=usd(625_000),
        cost=USE.cost,
        fee=USE.fee,
        burned=USE.burned,
        refunded=usd(616_909),
        remaining=usd(0),
        uses=(USE,),
    )


def status(booking_id: str, **more: Any) -> BookingStatus:
    return BookingStatus(booking_id=booking_id, request=REQUEST, max_total=usd(10**6), **more)


def accepted(order: SubmitJob) -> JobAccepted:
    return JobAccepted(**ids(order), job_id=order.job_id, node_id=HEAD, files=order.files)


def log(order: SubmitJob, sequence: int, *lines: str) -> JobLog:
    return JobLog(**ids(order), job_id=order.job_id, sequence=sequence, lines=lines)


def finished(order: SubmitJob, state: Any = "succeeded", **more: Artefact | str | None) -> JobFinished:
    return JobFinished(**ids(order), job_id=order.job_id, status=state, **more)  # type: ignore[arg-type]
