"""Processor clock: asking for more than the free clock adds so much for each 100 MHz begun."""

from services.pricing.domain.factors.factor import Asked, Factor, percent


def factor(asked: Asked) -> Factor:
    """`1000 + ⌈(asked − cpu_mhz_free) / 100⌉ × cpu_permille_per_100_mhz`, at most hardware_price_max."""
    wanted, policy = asked.request.cpu_mhz_min, asked.policy
    if not wanted:
        return Factor("CPU clock", "Any clock.")
    steps = max(0, -(-(wanted - policy.cpu_mhz_free) // 100))
    price = min(1000 + steps * policy.cpu_permille_per_100_mhz, policy.hardware_price_max)
    return Factor("CPU clock", f"At least {wanted} MHz; {policy.cpu_mhz_free} are free: {percent(price)}.", price, 1000)
