"""Main memory: asking for more than the free gigabytes of each GPU adds so much for each gigabyte more per GPU."""

from services.pricing.domain.factors.factor import Asked, Factor, percent


def factor(asked: Asked) -> Factor:
    """`1000 + ⌈GB asked / GPUs − memory_gb_free⌉ × memory_permille_per_gb`, at most hardware_price_max."""
    wanted, policy = asked.request.memory_mb_min, asked.policy
    if not wanted:
        return Factor("RAM", "Any memory.")
    more = max(0, -(-wanted // (1024 * asked.request.gpus_per_node)) - policy.memory_gb_free)
    price = min(1000 + more * policy.memory_permille_per_gb, policy.hardware_price_max)
    why = f"At least {wanted} MB a node; {policy.memory_gb_free} GB per GPU are free: {percent(price)}."
    return Factor("RAM", why, price, 1000)
