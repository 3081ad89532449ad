"""Quotes: prices whose lines multiply out exactly, given once and honoured for minutes."""

import hashlib
from collections.abc import Iterable

import msgspec

from services.pricing.domain.base import BREAK_EVEN_DAYS, CATALOGUE, Card, nearest_models
from services.pricing.domain.fee import BURN_PERCENT, FEE_PERCENT
from services.pricing.domain.tiers import PING_MS_MAX, tier_of
from wire.booking import BookingPlaced, BookingQuoted, QuoteDeclined
from wire.message import Token
from wire.quote import Quote
from wire.values import CPU_MODEL, ClusterRequest, QuoteLine, Reason, Refusal, usd


class Terms(msgspec.Struct, frozen=True):
    """Under which id and for how long a quote is given, and how many nodes of its model the pool has."""

    quote_id: Token
    at: int
    valid_ms: int
    pool_nodes: int = 0


def quote(request: ClusterRequest, terms: Terms) -> Quote | Refusal:
    """Price a request; a model nobody offers now is priced too, since capacity is the scheduler's word."""
    card = CATALOGUE.get(request.model)
    if card is None:
        return _unknown(request.model)
    if request.model == CPU_MODEL and request.gpus_per_node != 1:
        return Refusal(
            reason=Reason.out_of_range,
            detail=f"A node without a GPU is priced whole, so gpus_per_node is 1, not {request.gpus_per_node}.",
            nearest="gpus_per_node 1",
        )
    lines = _lines(request, card, terms.pool_nodes)
    hourly = multiplied_out(lines)
    return Quote(
        quote_id=terms.quote_id,
        request=request,
        lines=lines,
        hourly=usd(hourly),
        total=usd(total_micros(hourly, request)),
        issued_at=terms.at,
        expires_at=terms.at + terms.valid_ms,
    )


def total_micros(hourly: int, request: ClusterRequest) -> int:
    """`hourly × nodes × duration_seconds / 3600`, rounded up: no use of the cluster within its time costs more."""
    return -(-hourly * request.nodes * request.duration_seconds // 3600)


def multiplied_out(lines: Iterable[QuoteLine]) -> int:
    """The hourly price of one node: one micro-USD times each factor in turn, floored after each."""
    amount = 1
    for line in lines:
        amount = amount * line.numerator // line.denominator
    return amount


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


def dollars(micros: int) -> str:
    return f"{micros // 10**6}.{micros % 10**6:06d} USD"


def _lines(request: ClusterRequest, card: Card, pool_nodes: int) -> tuple[QuoteLine, ...]:
    tier = tier_of(request.bandwidth_tier)
    added = tier.permille - 1000
    base = (
        f"{card.model}: {card.msrp_cents // 100}.{card.msrp_cents % 100:02d} USD / {BREAK_EVEN_DAYS} days / 24 h"
        f" (RNP-004), to the nearest micro-USD{f'; {card.assumption}' if card.assumption else ''}."
        f" Nodes of this model in the pool, free or not: {pool_nodes}."
    )
    bandwidth = (
        f"{tier.published_name}: {tier.mb_s_min} MB/s down and up, ping at most {PING_MS_MAX} ms,"
        f" +{added // 10}.{added % 10} % (RNP-004)."
    )
    fee = (
        f"{FEE_PERCENT} % of the price is the network's operating fee and {BURN_PERCENT} % is burned (RNP-021):"
        " taken out of the price, not put on top."
    )
    units = "A node without a GPU is priced whole." if card.model == CPU_MODEL else "Each GPU of a node is priced."
    factors = (
        ("base price", base, card.hourly_micros, 1),
        ("bandwidth tier", bandwidth, tier.permille, 1000),
        ("GPUs per node", units, request.gpus_per_node, 1),
        ("operating fee", fee, 1, 1),
    )
    lines: list[QuoteLine] = []
    amount = 1
    for name, why, numerator, denominator in factors:
        amount = amount * numerator // denominator
        lines.append(
            QuoteLine(name=name, why=why, numerator=numerator, denominator=denominator, amount=usd(amount)),
        )
    return tuple(lines)


def _unknown(model: str) -> Refusal:
    names = nearest_models(model)
    return Refusal(
        reason=Reason.unknown_model,
        detail=f"No price is known for the model {model!r}. Priced are: {', '.join(CATALOGUE)}.",
        nearest=", ".join(names),
    )


def _differences(given: ClusterRequest, ordered: ClusterRequest) -> str:
    pairs = ((name, getattr(given, name), getattr(ordered, name)) for name in given.__struct_fields__)
    return ", ".join(f"{name} {was} there and {now} here" for name, was, now in pairs if was != now)


def _quoted(order: BookingPlaced, price: Quote) -> BookingQuoted:
    return BookingQuoted(partner=order.partner, booking_id=order.booking_id, quote=price)


def _declined(order: BookingPlaced, refusal: Refusal) -> QuoteDeclined:
    return QuoteDeclined(partner=order.partner, booking_id=order.booking_id, refusal=refusal)
