"""Tensor cores: all cards of a model have as many, so they are in the model's price."""

from services.pricing.domain.factors.factor import Asked, Factor


def factor(asked: Asked) -> Factor:
    """`× 1`: the model's row of the table is what its list price buys (RNP-004)."""
    return Factor("tensor cores", f"Each {asked.card.model} has {asked.card.tensor_cores}; they are in the base price.")
