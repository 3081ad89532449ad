"""Memory bandwidth of the GPU: all cards of a model have the same, so it is in the model's price."""

from services.pricing.domain.factors.factor import Asked, Factor


def factor(asked: Asked) -> Factor:
    """`× 1`: the model's row of the table is what its list price buys (RNP-004)."""
    has = asked.card.memory_bandwidth_mb_s
    known = f"Each {asked.card.model} has {has // 1000} GB/s" if has else f"No table has it for {asked.card.model}"
    return Factor("memory bandwidth", f"{known}; it is in the base price.")
