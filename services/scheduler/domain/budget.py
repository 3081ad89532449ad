"""What a budget buys at a quoted price, said in words a person can order by."""

from services.scheduler.domain.words import many
from wire.quote import Quote
from wire.values import Money, Reason, Refusal

_DURATION_SECONDS_MIN = 60


def over_budget(quote: Quote, max_total: Money) -> Refusal | None:
    """None where the quote fits; otherwise the refusal, with the longest and the widest booking that would."""
    if quote.total.asset == max_total.asset and quote.total.amount <= max_total.amount:
        return None
    return Refusal(
        reason=Reason.over_budget,
        detail=f"The booking costs at most {_usd(quote.total)} and may cost {_usd(max_total)}.",
        nearest=_nearest(quote, max_total),
    )


def _nearest(quote: Quote, max_total: Money) -> str:
    request, hourly = quote.request, quote.hourly.amount
    if max_total.asset != quote.hourly.asset or hourly <= 0:
        return ""
    found = []
    seconds = max_total.amount * 3600 // (hourly * request.nodes)
    if seconds >= _DURATION_SECONDS_MIN:
        found.append(f"{many(request.nodes, 'node')} for {seconds} seconds")
    nodes = max_total.amount * 3600 // (hourly * request.duration_seconds)
    if nodes >= 1:
        found.append(f"{many(nodes, 'node')} for {request.duration_seconds} seconds")
    return " or ".join(found) or f"a maximum of {_usd(quote.total)}"


def _usd(money: Money) -> str:
    return f"{money.amount / 10**6:.6f} {money.asset}"
