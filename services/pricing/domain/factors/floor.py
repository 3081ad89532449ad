"""The cost floor: no hour is sold below the power it takes, nor below what the nodes ask, each grossed up by 95/5."""

from services.pricing.domain.factors.factor import Asked, Factor, dollars
from services.pricing.domain.fee import price_of_ask
from services.pricing.domain.policy import Policy


def power_cost(power_w: int, policy: Policy) -> int:
    """What an hour of a card at its full power costs, in micro-USD, rounded up."""
    return -(-power_w * policy.power_micros_per_kwh // 1000)


def factor(asked: Asked, price: int) -> Factor:
    """Lifts `price` to `max(power, ask) × (1 + 5/95)`; the ask is the highest among the cheapest nodes that suffice.

    A request's other constraints may leave dearer nodes: then none is held at this price, which is matching's word.
    """
    power = power_cost(asked.card.power_w, asked.policy)
    ask = asked.standing.asks.of_cheapest(asked.request.nodes)
    floor = price_of_ask(max(power, ask))
    wants = f"the {asked.request.nodes} cheapest free nodes ask at most {dollars(ask)}" if ask else "no node asks more"
    why = (
        f"{asked.card.power_w} W at {dollars(asked.policy.power_micros_per_kwh)}/kWh are {dollars(power)}, {wants}; "
        f"× (1 + 5/95) that is {dollars(floor)} (RNP-021)."
    )
    if floor <= price:
        return Factor("cost floor", f"{why} The price is above it.")
    return Factor("cost floor", f"{why} The price is lifted to it.", floor, price)
