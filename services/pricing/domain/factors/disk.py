"""Disk kind: asking for solid state, or for NVMe, has a price."""

from services.pricing.domain.factors.factor import Asked, Factor, percent


def factor(asked: Asked) -> Factor:
    """disk_ssd_price or disk_nvme_price, in thousandths; `× 1` where any disk will do."""
    kind = asked.request.disk
    if kind == "any":
        return Factor("disk kind", "Any disk.")
    price = asked.policy.disk_nvme_price if kind == "nvme" else asked.policy.disk_ssd_price
    return Factor("disk kind", f"{kind} at least: {percent(price)} (disk_{kind}_price).", price, 1000)
