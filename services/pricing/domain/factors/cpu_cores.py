"""Processor cores: asking for more than the free ones of each GPU adds so much for each core more per GPU."""

from services.pricing.domain.factors.factor import Asked, Factor, percent


def factor(asked: Asked) -> Factor:
    """`1000 + ⌈asked / GPUs − cpu_cores_free⌉ × cpu_permille_per_core`, at most hardware_price_max."""
    wanted, policy = asked.request.cpu_cores_min, asked.policy
    if not wanted:
        return Factor("CPU cores", "Any number of cores.")
    more = max(0, -(-wanted // asked.request.gpus_per_node) - policy.cpu_cores_free)
    price = min(1000 + more * policy.cpu_permille_per_core, policy.hardware_price_max)
    why = f"At least {wanted} cores a node; {policy.cpu_cores_free} per GPU are free: {percent(price)}."
    return Factor("CPU cores", why, price, 1000)
