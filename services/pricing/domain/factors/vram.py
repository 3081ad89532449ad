"""VRAM: all cards of a model have the same, so it is in the model's price; a request for more than that is refused."""

from services.pricing.domain.factors.factor import Asked, Factor


def factor(asked: Asked) -> Factor:
    """`× 1`: the model's row of the table is what its list price buys (RNP-004)."""
    has = asked.card.memory_mb
    known = f"Each {asked.card.model} has {has} MB" if has else f"No table says what memory {asked.card.model} has"
    return Factor("VRAM", f"{known}; it is in the base price.")
