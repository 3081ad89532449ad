"""What a workload costs and how long it takes, laid out as Ray runs it: batches, one after the other on each GPU.

    batches   = ⌈items / batch_items⌉
    sequences = ⌈batches / (nodes × gpus_per_node)⌉       batches that the busiest GPU works off
    seconds   = ⌈setup + sequences × batch_items × seconds per item⌉
    total     = what a quote for so many nodes and seconds says: the setup is paid for too

More nodes pay only where a GPU gets a batch less to do, so one node count is enough for each number of sequences.
"""

from collections.abc import Iterator, Mapping

import msgspec

from services.pricing.domain.factors.factor import Asked
from services.pricing.domain.lines import lines
from services.pricing.domain.quote import total_micros
from services.pricing.domain.refusals import refusal
from services.pricing.domain.standing import EMPTY, Standing
from services.pricing.domain.tariff import STANDARD, Tariff
from wire.market import EstimateWorkload, WorkloadClass, WorkloadEstimate, WorkloadPlan
from wire.values import ClusterRequest, Refusal, usd

_SECONDS_MIN, _SECONDS_MAX = 60, 366 * 86_400
_PLANS_MAX = 400
_EXACT_NODES, _STEP_DIVISOR = 24, 12
"""Up to so many nodes every count is looked at; beyond it in steps of a twelfth."""


def estimate(
    asked: EstimateWorkload, at: int, standings: Mapping[str, Standing], tariff: Tariff = STANDARD
) -> WorkloadEstimate | Refusal:
    """The plans by time, the frontier of cost and time, and of those in time the cheapest."""
    plans: list[WorkloadPlan] = []
    for kind in asked.classes:
        no = refusal(_request(asked, kind, 1, _SECONDS_MIN), tariff)
        if no is not None:
            return no
        plans += _plans(asked, kind, at, standings.get(kind.model, EMPTY), tariff)
    marked = _marked(plans)
    kept = marked if len(marked) <= _PLANS_MAX else _thinned(marked)
    return WorkloadEstimate(plans=tuple(kept), left_out=len(marked) - len(kept), remarks=_remarks(asked, marked))


def layouts(batches: int, gpus: int, nodes_max: int) -> Iterator[tuple[int, int]]:
    """(nodes, sequences): for each number of sequences the fewest nodes, ascending, as far as `nodes_max`."""
    nodes = 1
    while nodes <= nodes_max:
        sequences = -(-batches // (nodes * gpus))
        yield -(-batches // (sequences * gpus)), sequences
        if sequences == 1:
            return
        fewest = -(-batches // ((sequences - 1) * gpus))
        nodes = fewest if nodes < _EXACT_NODES else max(fewest, nodes + nodes // _STEP_DIVISOR)


def _plans(
    asked: EstimateWorkload, kind: WorkloadClass, at: int, standing: Standing, tariff: Tariff
) -> Iterator[WorkloadPlan]:
    batch = min(asked.batch_items, asked.items)
    batches = -(-asked.items // batch)
    for nodes, sequences in layouts(batches, kind.gpus_per_node, asked.nodes_max):
        work = -(-sequences * batch * kind.item_micros // 10**6)
        seconds = asked.setup_seconds + work
        if seconds > _SECONDS_MAX:
            continue
        request = _request(asked, kind, nodes, max(seconds, _SECONDS_MIN))
        hourly = lines(Asked(request, tariff.cards[kind.model], at, standing, tariff.policy))[-1].amount
        yield WorkloadPlan(
            model=kind.model,
            nodes=nodes,
            gpus_per_node=kind.gpus_per_node,
            batches=batches,
            sequences=sequences,
            seconds=seconds,
            hourly=hourly,
            total=usd(total_micros(hourly.amount, request)),
            in_time=seconds <= asked.deadline_seconds,
            frontier=False,
        )


def _request(asked: EstimateWorkload, kind: WorkloadClass, nodes: int, seconds: int) -> ClusterRequest:
    return ClusterRequest(
        nodes=nodes,
        model=kind.model,
        duration_seconds=seconds,
        gpus_per_node=kind.gpus_per_node,
        bandwidth_tier=asked.bandwidth_tier,
        country=asked.country,
    )


def _marked(plans: list[WorkloadPlan]) -> list[WorkloadPlan]:
    """By time, with the frontier marked: each plan that costs less than every faster one."""
    ordered = sorted(plans, key=lambda plan: (plan.seconds, plan.total.amount, plan.nodes, plan.model))
    least: int | None = None
    marked = []
    for plan in ordered:
        first = least is None or plan.total.amount < least
        least = plan.total.amount if first else least
        marked.append(msgspec.structs.replace(plan, frontier=first))
    chosen = min((plan for plan in marked if plan.in_time), key=lambda plan: plan.total.amount, default=None)
    return [msgspec.structs.replace(plan, chosen=plan is chosen) for plan in marked]


def _thinned(marked: list[WorkloadPlan]) -> list[WorkloadPlan]:
    """The chosen plan, then the frontier, then the fastest: what a message takes, by time again."""
    ranked = sorted(marked, key=lambda plan: (not plan.chosen, not plan.frontier, plan.seconds))[:_PLANS_MAX]
    return sorted(ranked, key=lambda plan: (plan.seconds, plan.total.amount))


def _remarks(asked: EstimateWorkload, marked: list[WorkloadPlan]) -> tuple[str, ...]:
    if not marked:
        return ("No cluster is booked for so long: give more nodes, or fewer items.",)
    if any(plan.in_time for plan in marked):
        return ()
    fastest = marked[0]
    return (
        f"Nothing is done within {asked.deadline_seconds} s; the fastest takes {fastest.seconds} s, "
        f"with {fastest.nodes} × {fastest.model}.",
    )
