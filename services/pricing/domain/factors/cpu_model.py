"""Processor model: asking for one by a word of its name has a price, from the setting cpu_model_table."""

from services.pricing.domain.factors.factor import Asked, Factor, percent
from services.pricing.domain.policy import parsed


def factor(asked: Asked) -> Factor:
    """The price of the first word of the table that stands in what is asked for; none: `× 1`."""
    wanted = asked.request.cpu_model
    if wanted is None:
        return Factor("CPU model", "Any processor.")
    table = parsed(asked.policy.cpu_model_table, 1000, 10_000)
    price = next((price for word, price in table.items() if word.casefold() in wanted.casefold()), 1000)
    return Factor("CPU model", f"A processor named {wanted}: {percent(price)} (cpu_model_table).", price, 1000)
