"""Location: asking for nodes of one country has the price that the setting location_table gives it."""

from services.pricing.domain.factors.factor import Asked, Factor, percent
from services.pricing.domain.policy import parsed


def factor(asked: Asked) -> Factor:
    """The country's price in thousandths; `× 1` for a country without one, and where nodes may stand anywhere."""
    country = asked.request.country
    if country is None:
        return Factor("location", "Nodes anywhere.")
    price = parsed(asked.policy.location_table, 500, 10_000).get(country, 1000)
    return Factor("location", f"Nodes in {country}: {percent(price)} (location_table).", price, 1000)
