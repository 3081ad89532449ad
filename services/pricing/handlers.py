"""What pricing does on each message: give a quote, price an order, count the pool."""

from collections.abc import Sequence

from libs.bus.reach import Reach
from libs.bus.service import Answer, Effect, Handler
from libs.ids import new_id
from services.pricing.domain import quote
from services.pricing.domain.quote import Terms
from services.pricing.kept_quotes import KeptQuotes
from services.pricing.store import Rows
from wire.booking import BookingPlaced
from wire.message import Message, Query
from wire.node import NodeAdmitted, NodeLost, NodeWithdrawn
from wire.quote import GetQuote, QuoteGiven, Refused
from wire.values import Reason, Refusal

_NOT_KEPT = Refusal(
    reason=Reason.internal,
    detail="No quote can be kept at the moment.",
    nearest="Book without a quote_id: the order is priced when it is placed, and max_total bounds it.",
)


async def give_quote(asked: GetQuote, rows: Rows) -> QuoteGiven | Refused:
    priced = quote.quote(asked.request, await _terms(new_id("q"), asked.request.model, rows.now, rows))
    if isinstance(priced, Refusal):
        return Refused(refusal=priced)
    if not await rows.quotes.keep(asked.partner, priced):
        return Refused(refusal=_NOT_KEPT)
    return QuoteGiven(quote=priced)


async def price_order(order: BookingPlaced, reach: Reach) -> Sequence[Message]:
    """An effect, because the quote that the order may name lies in Valkey; its own time decides, not the clock."""

    async def load(rows: Rows) -> tuple[Terms, KeptQuotes]:
        return await _terms(quote.id_for_order(order.id), order.request.model, order.at, rows), rows.quotes

    terms, quotes = await reach.transact(order.id, load)
    kept = await quotes.find(order.partner, order.quote_id) if order.quote_id else None
    return [quote.answer_order(order, kept, quote.quote(order.request, terms))]


async def enter_pool(admitted: NodeAdmitted, rows: Rows) -> None:
    await rows.enter_pool(admitted.node_id, admitted.spec.model, admitted.at)


async def leave_pool(gone: NodeLost | NodeWithdrawn, rows: Rows) -> None:
    await rows.leave_pool(gone.node_id, gone.at)


def refuse_query(subject: str, reason: str, detail: str) -> Refused:
    """What the bus answers to a query that is none."""
    return Refused(refusal=Refusal(reason=Reason(reason), detail=detail[:2000]))


async def _terms(quote_id: str, model: str, at: int, rows: Rows) -> Terms:
    return Terms(quote_id, at, rows.settings.quote_valid_seconds * 1000, await rows.pool_nodes(model))


HANDLES: dict[type[Message], Handler] = {NodeAdmitted: enter_pool, NodeLost: leave_pool, NodeWithdrawn: leave_pool}
ANSWERS: dict[type[Query], Answer] = {GetQuote: give_quote}
EFFECTS: dict[type[Message], Effect] = {BookingPlaced: price_order}
