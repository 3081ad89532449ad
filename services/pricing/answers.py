"""What pricing answers: a quote, which is then kept, an estimate of a workload, and a table of earnings."""

from libs.ids import new_id
from services.pricing.domain import earnings, estimate, quote
from services.pricing.domain.quote import Terms
from services.pricing.store import Rows
from wire.market import Earnings, EstimateWorkload, GetEarnings, WorkloadEstimate
from wire.quote import GetQuote, QuoteGiven, Refused
from wire.values import Reason, Refusal

_NOT_KEPT = Refusal(
    reason=Reason.internal,
    detail="No quote can be kept at the moment.",
    nearest="Book without a quote_id: the order is priced when it is placed, and max_total bounds it.",
)


async def give_quote(asked: GetQuote, rows: Rows) -> QuoteGiven | Refused:
    standing = await rows.view.standing(asked.request.model, rows)
    terms = Terms(new_id("q"), rows.now, rows.settings.quote_valid_seconds * 1000, standing)
    priced = quote.quote(asked.request, terms, rows.tariff)
    if isinstance(priced, Refusal):
        return Refused(refusal=priced)
    if not await rows.quotes.keep(asked.partner, priced):
        return Refused(refusal=_NOT_KEPT)
    return QuoteGiven(quote=priced)


async def estimate_workload(asked: EstimateWorkload, rows: Rows) -> WorkloadEstimate | Refused:
    found = estimate.estimate(asked, rows.now, await rows.view.standings(rows), rows.tariff)
    return Refused(refusal=found) if isinstance(found, Refusal) else found


async def give_earnings(asked: GetEarnings, rows: Rows) -> Earnings:
    return earnings.earnings(rows.now, await rows.view.standings(rows), asked.render_price_micros, rows.tariff)


def refuse_query(subject: str, reason: str, detail: str) -> Refused:
    """What the bus answers to a query that is none."""
    return Refused(refusal=Refusal(reason=Reason(reason), detail=detail[:2000]))
