"""What a GPU of each model may earn, in USD and in RENDER, beside what it has to earn to break even (RNP-004).

earned per hour = 95 % of the price of an hour (5 % is the network's fee)
earned per day  = earned per hour × 24 × use          use of the model's pool now, or the assumed one
break-even days = ⌈list price / (earned per day − power per day)⌉
"""

from collections.abc import Mapping

from services.pricing.domain.base import Card
from services.pricing.domain.factors.factor import Asked
from services.pricing.domain.factors.floor import power_cost
from services.pricing.domain.fee import divide
from services.pricing.domain.lines import lines
from services.pricing.domain.standing import EMPTY, Standing
from services.pricing.domain.tariff import STANDARD, Tariff
from wire.market import Earnings, ModelEarning
from wire.values import DECIMALS, ClusterRequest, Money, usd

_MICROS_PER_CENT = 10_000


def earnings(at: int, standings: Mapping[str, Standing], render_price: int, tariff: Tariff = STANDARD) -> Earnings:
    """A row for each model that has a price, dearest first; `render_price` 0: without RENDER."""
    price = render_price or tariff.policy.render_price_micros
    rows = [_row(card, at, standings.get(card.model, EMPTY), price, tariff) for card in tariff.cards.values()]
    rows.sort(key=lambda row: (-row.earned_hourly.amount, row.model))
    return Earnings(rows=tuple(rows), render_price_micros=price, at=at)


def in_render(micros: int, render_price: int) -> Money | None:
    """So much RENDER as `micros` of USD buy, floored to a base unit; None where no price of RENDER is known."""
    return Money(micros * 10 ** DECIMALS["RENDER"] // render_price, "RENDER") if render_price else None


def _row(card: Card, at: int, standing: Standing, render_price: int, tariff: Tariff) -> ModelEarning:
    request = ClusterRequest(nodes=1, model=card.model, duration_seconds=3600)
    hourly = lines(Asked(request, card, at, standing, tariff.policy))[-1].amount
    measured = standing.total >= tariff.policy.surge_nodes_min
    use = standing.used * 1000 // standing.total if measured else tariff.policy.use_assumed_permille
    earned, _ = divide(hourly.amount)
    daily = earned * 24 * use // 1000
    power = power_cost(card.power_w, tariff.policy) * 24 * use // 1000
    listed = card.msrp_cents * _MICROS_PER_CENT
    return ModelEarning(
        model=card.model,
        list_price=usd(listed),
        list_price_render=in_render(listed, render_price),
        price_hourly=hourly,
        earned_hourly=usd(earned),
        earned_hourly_render=in_render(earned, render_price),
        use_permille=use,
        use_from="pool" if measured else "assumed",
        earned_daily=usd(daily),
        earned_daily_render=in_render(daily, render_price),
        power_daily=usd(power),
        break_even_hourly=usd(card.hourly_micros),
        break_even_hourly_render=in_render(card.hourly_micros, render_price),
        break_even_days=-(-listed // (daily - power)) if daily > power else None,
    )
