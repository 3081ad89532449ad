"""What has no price: models nobody knows, more than a model has, and what matching would not see to."""

from services.pricing.domain.base import Card, nearest_models
from services.pricing.domain.policy import MINIMA
from services.pricing.domain.tariff import Tariff
from wire.values import CPU_MODEL, ClusterRequest, Reason, Refusal

_FACTS = (
    ("vram_mb_min", "memory_mb", "MB of memory"),
    ("memory_bandwidth_mb_s_min", "memory_bandwidth_mb_s", "MB/s of memory bandwidth"),
    ("tensor_cores_min", "tensor_cores", "tensor cores"),
)


def refusal(request: ClusterRequest, tariff: Tariff) -> Refusal | None:
    """Why this request has no price, or None."""
    card = tariff.cards.get(request.model)
    if card is None:
        return _unknown(request.model, tariff)
    if request.model == CPU_MODEL and request.gpus_per_node != 1:
        return Refusal(
            reason=Reason.out_of_range,
            detail=f"A node without a GPU is priced whole, so gpus_per_node is 1, not {request.gpus_per_node}.",
            nearest="gpus_per_node 1",
        )
    return _more_than_it_has(request, card, tariff) or _unmatched(request, tariff)


def _unknown(model: str, tariff: Tariff) -> Refusal:
    return Refusal(
        reason=Reason.unknown_model,
        detail=f"No price is known for the model {model!r}. Priced are: {', '.join(tariff.cards)}."[:2000],
        nearest=", ".join(nearest_models(model, cards=tariff.cards)),
    )


def _more_than_it_has(request: ClusterRequest, card: Card, tariff: Tariff) -> Refusal | None:
    """A minimum of the card itself holds for all of its model or for none; the cheapest model that has all is named."""
    for field, fact, words in _FACTS:
        wanted, has = getattr(request, field), getattr(card, fact)
        if wanted > has:
            enough = [
                other
                for other in tariff.cards.values()
                if all(getattr(other, fact) >= getattr(request, field) for field, fact, _ in _FACTS)
            ]
            cheapest = min(enough, key=lambda other: (other.hourly_micros, other.model), default=None)
            return Refusal(
                reason=Reason.out_of_range,
                detail=f"No {card.model} is known to have {wanted} {words}: its table says {has}.",
                nearest=f"the model {cheapest.model}" if cheapest else "",
            )
    return None


def _unmatched(request: ClusterRequest, tariff: Tariff) -> Refusal | None:
    asked = {field for field in MINIMA if getattr(request, field) not in (None, 0, "any")}
    unseen = sorted(asked - tariff.policy.matched)
    if not unseen:
        return None
    return Refusal(
        reason=Reason.out_of_range,
        detail=f"Matching does not see to {', '.join(unseen)} here, so it is not sold (minima_matched).",
        nearest=f"the same request without {', '.join(unseen)}",
    )
