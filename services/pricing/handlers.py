"""What pricing does on each message: price an order, follow the pool, the market and the clusters that get ready."""

import hashlib
from collections.abc import Sequence

from libs.bus.reach import Reach
from libs.bus.service import Answer, Effect, Every, Handler
from services.pricing.answers import estimate_workload, give_earnings, give_quote
from services.pricing.domain import quote, rates
from services.pricing.domain.factors import supply
from services.pricing.domain.quote import Terms
from services.pricing.domain.tariff import Tariff
from services.pricing.kept_quotes import KeptQuotes
from services.pricing.store import Rows
from wire.access import MessageRefused
from wire.booking import BookingPlaced, ClusterReady, LeaseEnded, NodeReplaced, NodesHeld
from wire.market import EstimateWorkload, GetEarnings, MarketRate
from wire.message import Message, Query
from wire.node import NodeAdmitted, NodeLost, NodeWithdrawn
from wire.quote import GetQuote
from wire.values import NodeSpec, Reason, Refusal

_DAY_MS = 86_400_000
_RATES_KEPT_DAYS, _WAITING_KEPT_DAYS = 7, 1
_ASK_MAX = 10**11
"""100,000 USD an hour: what asks more is out of reach, and its price would not fit into a line."""


async def price_order(order: BookingPlaced, reach: Reach) -> Sequence[Message]:
    """An effect, because the quote that the order may name lies in Valkey; its own time decides, not the clock."""

    async def load(rows: Rows) -> tuple[Terms, KeptQuotes, Tariff]:
        await rows.wait_for(order.partner, order.booking_id, order.request.model, order.at)
        valid_ms = rows.settings.quote_valid_seconds * 1000
        standing = await rows.view.standing(order.request.model, rows)
        return Terms(quote.id_for_order(order.id), order.at, valid_ms, standing), rows.quotes, rows.tariff

    terms, quotes, tariff = await reach.transact(order.id, load)
    kept = await quotes.find(order.partner, order.quote_id) if order.quote_id else None
    return [quote.answer_order(order, kept, quote.quote(order.request, terms, tariff))]


async def enter_pool(admitted: NodeAdmitted, rows: Rows) -> None:
    await rows.enter_pool(admitted.node_id, admitted.spec.model, _ask(admitted.spec), admitted.at)


async def leave_pool(gone: NodeLost | NodeWithdrawn, rows: Rows) -> None:
    await rows.leave_pool(gone.node_id, gone.at)


async def occupy(held: NodesHeld, rows: Rows) -> None:
    await rows.occupy(held.leases, held.at)


async def occupy_replacement(replaced: NodeReplaced, rows: Rows) -> None:
    await rows.occupy([replaced.lease], replaced.at)


async def vacate(ended: LeaseEnded, rows: Rows) -> None:
    await rows.vacate(ended.lease, ended.at)


async def learn_ready(ready: ClusterReady, rows: Rows) -> None:
    await rows.reoccupy(ready.node_ids, ready.at)
    if ready.generation == 1:
        await rows.record_ready(ready.partner, ready.booking_id, ready.at)


async def learn_rate(told: MarketRate, rows: Rows) -> None:
    """Keep the rate with its source and age; whether it is believed is decided at each price."""
    key = (told.partner, told.source, told.model, told.bandwidth_tier)
    no = rates.refusal(told, rows.now, rows.tariff, await rows.other_sources(*key))
    if no is not None:
        refused = MessageRefused(identity=told.partner, subject_refused=told.subject(), message_id=told.id, refusal=no)
        rows.say(refused)
        return
    kept = rates.renewed(await rows.rate(*key), told, rows.tariff.policy.market_jump_times)
    if kept is not None:
        await rows.record_rate(told.model, kept)


async def move_surge(rows: Rows) -> None:
    """Every model follows the use of its pool; one that left the pool falls back as one that is not used."""
    uses, surges = await rows.uses(), await rows.surges()
    policy = rows.tariff.policy
    moved = {
        model: supply.advance(surges.get(model, supply.Surge()), *uses.get(model, (0, 0)), rows.now, policy)
        for model in sorted({*uses, *surges})
    }
    await rows.record_surges(moved)


async def forget(rows: Rows) -> None:
    await rows.forget(rows.now - _RATES_KEPT_DAYS * _DAY_MS, rows.now - _WAITING_KEPT_DAYS * _DAY_MS)


def refuse(subject: str, message_id: str, body: bytes, reason: str, detail: str) -> MessageRefused | None:
    """What the bus says of a message that is none: to the partner whose feed it is; of our own services nobody."""
    if subject != MarketRate.pattern(partner=subject.split(".")[2]):
        return None
    return MessageRefused(
        identity=subject.split(".")[2],
        subject_refused=subject,
        message_id=message_id[:200],
        body_digest=hashlib.sha256(body).hexdigest(),
        refusal=Refusal(reason=Reason(reason), detail=detail[:2000]),
    )


def _ask(spec: NodeSpec) -> int:
    """In micro-USD per unit and hour; 0 for any price, and for an ask in another asset, which says nothing here."""
    ask = spec.ask_hourly
    return min(ask.amount, _ASK_MAX) if ask is not None and ask.asset == "USD" else 0


HANDLES: dict[type[Message], Handler] = {
    NodeAdmitted: enter_pool,
    NodeLost: leave_pool,
    NodeWithdrawn: leave_pool,
    NodesHeld: occupy,
    NodeReplaced: occupy_replacement,
    LeaseEnded: vacate,
    ClusterReady: learn_ready,
    MarketRate: learn_rate,
}
ANSWERS: dict[type[Query], Answer] = {
    GetQuote: give_quote,
    EstimateWorkload: estimate_workload,
    GetEarnings: give_earnings,
}
EFFECTS: dict[type[Message], Effect] = {BookingPlaced: price_order}
EVERY = [Every(seconds=5.0, task=move_surge, name="surge"), Every(seconds=3600.0, task=forget, name="forget")]
