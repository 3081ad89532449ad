"""Quotes: prices whose lines multiply out exactly, given once and honoured for minutes."""

import hashlib

import msgspec

from services.pricing.domain.factors.factor import Asked, dollars
from services.pricing.domain.lines import lines
from services.pricing.domain.refusals import refusal
from services.pricing.domain.standing import EMPTY, Standing
from services.pricing.domain.tariff import STANDARD, Tariff
from wire.booking import BookingPlaced, BookingQuoted, QuoteDeclined
from wire.message import Token
from wire.quote import Quote
from wire.values import AMOUNT_MAX, ClusterRequest, Reason, Refusal, usd


class Terms(msgspec.Struct, frozen=True):
    """Under which id and for how long a quote is given, and how things stand for its model."""

    quote_id: Token
    at: int
    valid_ms: int
    standing: Standing = EMPTY


def quote(request: ClusterRequest, terms: Terms, tariff: Tariff = STANDARD) -> Quote | Refusal:
    """Price a request; a model nobody offers now is priced too, since capacity is the scheduler's word."""
    no = refusal(request, tariff)
    if no is not None:
        return no
    found = lines(Asked(request, tariff.cards[request.model], terms.at, terms.standing, tariff.policy))
    hourly, ready = found[-1].amount, terms.standing.ready
    total = total_micros(hourly.amount, request)
    if total > AMOUNT_MAX:
        detail = f"{dollars(total)} is more than any wallet holds: at {dollars(hourly.amount)} a node and hour."
        return Refusal(reason=Reason.out_of_range, detail=detail, nearest="fewer nodes, or fewer hours")
    told = ready if ready and ready.samples >= tariff.policy.ready_samples_min else None
    return Quote(
        quote_id=terms.quote_id,
        request=request,
        lines=found,
        hourly=hourly,
        total=usd(total),
        issued_at=terms.at,
        expires_at=terms.at + terms.valid_ms,
        ready_p50_ms=told.p50_ms if told else None,
        ready_p90_ms=told.p90_ms if told else None,
        ready_samples=ready.samples if ready else 0,
    )


def total_micros(hourly: int, request: ClusterRequest) -> int:
    """`hourly × nodes × duration_seconds / 3600`, rounded up: no use of the cluster within its time costs more."""
    return -(-hourly * request.nodes * request.duration_seconds // 3600)


def answer_order(order: BookingPlaced, kept: Quote | None, fresh: Quote | Refusal) -> BookingQuoted | QuoteDeclined:
    """The price of an order: of the quote it names, if that was given for it and held when it was placed; else `fresh`.

    A quote that cannot be found, that ran out, or that is another partner's, is one and the same no.
    """
    if kept is not None and order.at < kept.expires_at and kept.request == order.request:
        return _quoted(order, kept)
    if isinstance(fresh, Refusal):
        return _declined(order, fresh)
    if order.quote_id is None:
        return _quoted(order, fresh)
    today = f"Today it costs {dollars(fresh.total.amount)}: ask for a new quote, or book without one."
    if kept is None or order.at >= kept.expires_at:
        detail = f"No quote {order.quote_id} holds: quotes hold for minutes, for the partner who asked."
        return _declined(order, Refusal(reason=Reason.quote_expired, detail=detail, nearest=today))
    detail = f"The quote {order.quote_id} is for another cluster: {_differences(kept.request, order.request)}."
    return _declined(order, Refusal(reason=Reason.quote_mismatch, detail=detail, nearest=today))


def id_for_order(message_id: str) -> Token:
    """The id of the quote an order without one gets: the same order, the same id."""
    return f"q_{hashlib.sha256(message_id.encode()).hexdigest()[:26]}"


def _differences(given: ClusterRequest, ordered: ClusterRequest) -> str:
    pairs = ((name, getattr(given, name), getattr(ordered, name)) for name in given.__struct_fields__)
    return ", ".join(f"{name} {was} there and {now} here" for name, was, now in pairs if was != now)


def _quoted(order: BookingPlaced, price: Quote) -> BookingQuoted:
    return BookingQuoted(partner=order.partner, booking_id=order.booking_id, quote=price)


def _declined(order: BookingPlaced, refusal: Refusal) -> QuoteDeclined:
    return QuoteDeclined(partner=order.partner, booking_id=order.booking_id, refusal=refusal)
