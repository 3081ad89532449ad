"""The nodes a booking can choose from, the constraints it has, and in words why they do not suffice."""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from services.scheduler.domain.words import many
from wire.values import CPU_MODEL, BandwidthTier, ClusterRequest, PortBlock, Reason, Refusal

TIERS: dict[BandwidthTier, int] = {tier: rank for rank, tier in enumerate(BandwidthTier)}


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A node that lives and does not drain; `free` says that no lease of it is live."""

    node_id: str
    model: str
    gpus: int
    tier: int
    country: str
    reputation_millis: int
    last_leased_at: int
    fence: int
    address: str
    ports: PortBlock
    free: bool

    @property
    def units(self) -> int:
        return max(self.gpus, 1)


Pool = Sequence[Candidate]
Constraint = tuple[str, Callable[[Candidate], bool]]


def constraints(request: ClusterRequest) -> tuple[Constraint, ...]:
    """What the request asks of each node, in the order in which a shortage is explained."""
    tier = TIERS[request.bandwidth_tier]
    found: list[Constraint] = [(f"of model {request.model}", lambda node: node.model == request.model)]
    if request.gpus_per_node > 1:
        found.append((many(request.gpus_per_node, "GPU"), lambda node: node.units >= request.gpus_per_node))
    if tier > 0:
        found.append((f"bandwidth tier {request.bandwidth_tier}", lambda node: node.tier >= tier))
    if request.country is not None:
        found.append((f"country {request.country}", lambda node: node.country == request.country))
    return tuple(found)


def fits(request: ClusterRequest, node: Candidate) -> bool:
    return all(holds(node) for _, holds in constraints(request))


def fitting(request: ClusterRequest, pool: Pool) -> list[Candidate]:
    """The free nodes that satisfy every constraint."""
    return [node for node in pool if node.free and fits(request, node)]


def funnel(request: ClusterRequest, pool: Pool) -> list[tuple[str, int]]:
    """How many nodes are left after each constraint, the last of which is that the node is free."""
    left, counts = list(pool), []
    for words, holds in (*constraints(request), ("free", lambda node: node.free)):
        left = [node for node in left if holds(node)]
        counts.append((words, len(left)))
    return counts


def shortage(request: ClusterRequest, pool: Pool) -> Refusal:
    """Why `pool`, the whole fleet, has no gang for this request, and the nearest request it has one for."""
    (first, count), *more = funnel(request, pool)
    told = [f"{many(count, 'node')} {first}", *(f"{count} of them also {words}" for words, count in more)]
    told[-1] = told[-1].replace(" also free", " free now")
    detail = f"{many(request.nodes, 'node')} asked for: {', '.join(told)}."
    return Refusal(reason=Reason.no_capacity, detail=detail, nearest=nearest(request, pool))


def nearest(request: ClusterRequest, pool: Pool) -> str:
    """The first single concession that makes the request fit: country, tier, GPUs a node, nodes, then model."""
    options = (_elsewhere, _slower, _smaller, _fewer, _other_model)
    return next((words for option in options if (words := option(request, pool))), "")


def _enough(request: ClusterRequest, pool: Pool) -> bool:
    return len(fitting(request, pool)) >= request.nodes


def _elsewhere(request: ClusterRequest, pool: Pool) -> str:
    anywhere = msgspec.structs.replace(request, country=None)
    if request.country is None or not _enough(anywhere, pool):
        return ""
    countries = Counter(node.country for node in fitting(anywhere, pool))
    best, count = min(countries.items(), key=lambda item: (-item[1], item[0]))
    return f"the same in country {best}" if count >= request.nodes else "the same in any country"


def _slower(request: ClusterRequest, pool: Pool) -> str:
    for tier in reversed(list(BandwidthTier)[: TIERS[request.bandwidth_tier]]):
        if _enough(msgspec.structs.replace(request, bandwidth_tier=tier), pool):
            return f"the same with bandwidth tier {tier}"
    return ""


def _smaller(request: ClusterRequest, pool: Pool) -> str:
    for gpus in range(request.gpus_per_node - 1, 0, -1):
        if _enough(msgspec.structs.replace(request, gpus_per_node=gpus), pool):
            return f"the same with {many(gpus, 'GPU')} a node"
    return ""


def _fewer(request: ClusterRequest, pool: Pool) -> str:
    count = len(fitting(request, pool))
    return f"the same with {many(count, 'node')}" if 0 < count < request.nodes else ""


def _other_model(request: ClusterRequest, pool: Pool) -> str:
    models = Counter(
        node.model for node in pool if fits(msgspec.structs.replace(request, model=node.model), node) and node.free
    )
    enough = sorted(model for model, count in models.items() if count >= request.nodes)
    # Who wants GPUs is helped by other GPUs first.
    enough.sort(key=lambda model: model == CPU_MODEL)
    return f"the same with model {enough[0]}" if enough else ""
