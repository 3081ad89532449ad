"""Reputation: asking for nodes that are trusted so far adds in proportion to how far."""

from services.pricing.domain.factors.factor import Asked, Factor


def factor(asked: Asked) -> Factor:
    """`1 + reputation_permille_at_full / 1000 × floor / 1000`, the floor in thousandths."""
    floor, full = asked.request.reputation_millis_min, asked.policy.reputation_permille_at_full
    if not floor:
        return Factor("reputation", "Nodes of any reputation.")
    why = f"Nodes with a reputation of {floor / 1000:.3f} or better; one of 1.000 adds {full} thousandths."
    return Factor("reputation", why, 1_000_000 + full * floor, 1_000_000)
