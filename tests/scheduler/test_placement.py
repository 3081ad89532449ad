"""Placement: laws that hold for every pool and every request, and the words for a shortage."""

from collections.abc import Callable
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.domain import placement
from services.scheduler.domain.booking import LeaseState, placed
from services.scheduler.domain.budget import over_budget
from services.scheduler.domain.pool import TIERS, Candidate, fits, fitting, funnel, nearest, shortage
from tests.scheduler import builders
from wire.values import BandwidthTier, ClusterRequest, usd

MODELS = ("RTX 4090", "H100", "CPU")
COUNTRIES = ("DE", "SI", "US")

nodes = st.builds(
    lambda number, model, gpus, tier, country, millis, leased, free: builders.candidate(
        number,
        model=model,
        gpus=0 if model == "CPU" else gpus,
        tier=tier,
        country=country,
        reputation_millis=millis,
        last_leased_at=leased,
        free=free,
    ),
    st.integers(0, 10**6),
    st.sampled_from(MODELS),
    st.integers(1, 8),
    st.integers(0, len(TIERS) - 1),
    st.sampled_from(COUNTRIES),
    st.integers(0, 3).map(lambda n: n * 300),
    st.integers(0, 3),
    st.booleans(),
)
pools = st.lists(nodes, max_size=24, unique_by=lambda node: node.node_id)
requests = st.builds(
    lambda n, model, gpus, tier, country: builders.request(
        nodes=n, model=model, gpus_per_node=gpus, bandwidth_tier=tier, country=country
    ),
    st.integers(1, 6),
    st.sampled_from(MODELS),
    st.integers(1, 8),
    st.sampled_from(list(BandwidthTier)),
    st.none() | st.sampled_from(COUNTRIES),
)


def suits(request: ClusterRequest, node: Candidate) -> bool:
    """The constraints once more, written plainly."""
    return (
        node.model == request.model
        and max(node.gpus, 1) >= request.gpus_per_node
        and list(TIERS).index(request.bandwidth_tier) <= node.tier
        and request.country in (None, node.country)
    )


@given(requests, pools)
def test_a_gang_is_whole_or_nothing_and_every_node_fits(request: ClusterRequest, pool: list[Candidate]) -> None:
    gang = placement.place(request, pool)
    suitable = [node for node in pool if node.free and suits(request, node)]
    if len(suitable) < request.nodes:
        assert gang is None
    else:
        assert gang is not None
        assert len({node.node_id for node in gang}) == request.nodes
        assert all(node in suitable for node in gang)


@given(requests, pools, st.randoms(use_true_random=False))
def test_the_same_snapshot_makes_the_same_plan(request: ClusterRequest, pool: list[Candidate], random: Random) -> None:
    shuffled = list(pool)
    random.shuffle(shuffled)
    assert placement.place(request, pool) == placement.place(request, shuffled)


@given(requests, pools)
def test_nobody_better_is_left_out(request: ClusterRequest, pool: list[Candidate]) -> None:
    gang = placement.place(request, pool) or []
    left = [node for node in pool if node.free and suits(request, node) and node not in gang]
    if gang:
        assert all(placement.rank(chosen) < placement.rank(other) for chosen in gang for other in left)
        assert max(node.reputation_millis for node in gang) == gang[0].reputation_millis


@given(requests, pools)
def test_the_counts_of_a_shortage_are_those_of_the_pool(request: ClusterRequest, pool: list[Candidate]) -> None:
    counts = [count for _, count in funnel(request, pool)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == sum(node.model == request.model for node in pool)
    assert counts[-2] == sum(suits(request, node) for node in pool) == sum(fits(request, node) for node in pool)
    assert counts[-1] == len(fitting(request, pool))


@given(requests, pools)
def test_the_nearest_alternative_would_fit(request: ClusterRequest, pool: list[Candidate]) -> None:
    words = nearest(request, pool)
    if placement.place(request, pool) is None and words:
        assert placement.place(conceded(request, words), pool) is not None, words


def conceded(request: ClusterRequest, words: str) -> ClusterRequest:
    """The request that the words describe."""
    concession = words.removeprefix("the same ")
    change: dict[str, Callable[[str], dict[str, object]]] = {
        "in country ": lambda value: {"country": value},
        "in any country": lambda value: {"country": None},
        "with bandwidth tier ": lambda value: {"bandwidth_tier": BandwidthTier(value)},
        "with model ": lambda value: {"model": value},
        "with ": lambda value: {
            "gpus_per_node" if value.endswith("a node") else "nodes": int(value.split(" ", 1)[0]),
        },
    }
    start = next(start for start in change if concession.startswith(start))
    return msgspec.structs.replace(request, **change[start](concession.removeprefix(start)))


@given(requests, pools, st.sets(st.integers(0, 23)))
def test_excluded_nodes_are_never_picked(request: ClusterRequest, pool: list[Candidate], out: set[int]) -> None:
    excluded = {node.node_id for nth, node in enumerate(pool) if nth in out}
    picked = placement.pick(request, pool, 3, excluded)
    assert not excluded & {node.node_id for node in picked}
    assert len(picked) <= 3


def test_a_shortage_tells_the_counts_and_the_nearest_fit() -> None:
    pool = [
        builders.candidate(1, country="SI", tier=0),
        builders.candidate(2, country="DE"),
        builders.candidate(3, country="DE"),
        builders.candidate(4, country="DE", free=False),
        builders.candidate(5, model="H100"),
    ]
    refusal = shortage(builders.request(nodes=2, bandwidth_tier=BandwidthTier.med_1, country="SI"), pool)
    assert refusal.reason == "no_capacity"
    assert refusal.detail == (
        "2 nodes asked for: 4 nodes of model RTX 4090, 3 of them also bandwidth tier med_1, "
        "0 of them also country SI, 0 of them free now."
    )
    assert refusal.nearest == "the same in country DE"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"nodes": 2, "bandwidth_tier": BandwidthTier.ultra}, "the same with bandwidth tier med_1"),
        ({"nodes": 2, "gpus_per_node": 8}, "the same with 1 GPU a node"),
        ({"nodes": 3}, "the same with 2 nodes"),
        ({"nodes": 1, "model": "A100"}, "the same with model H100"),
        ({"nodes": 9, "model": "A100"}, ""),
    ],
)
def test_the_nearest_alternatives(wanted: dict[str, object], words: str) -> None:
    pool = [builders.candidate(1), builders.candidate(2), builders.candidate(3, model="H100")]
    assert nearest(builders.request(**wanted), pool) == words


def test_reputation_ranks_first_then_the_smallest_then_the_longest_idle() -> None:
    pool = [
        builders.candidate(1, reputation_millis=100, last_leased_at=5),
        builders.candidate(2, reputation_millis=100, last_leased_at=1),
        builders.candidate(3, reputation_millis=100, gpus=4),
        builders.candidate(4, reputation_millis=900, gpus=8, last_leased_at=9),
    ]
    gang = placement.place(builders.request(nodes=4), pool)
    assert gang == [pool[3], pool[1], pool[0], pool[2]]


def test_every_lease_of_a_node_has_a_higher_fence() -> None:
    booking = placed(builders.order(), builders.T0).changed(hourly=builders.HOURLY)
    gang = [builders.candidate(1, fence=7), builders.candidate(2, fence=0)]
    granted = placement.grant(booking, gang, (0, 1), LeaseState.held, builders.T0)
    assert [lease.fence for lease in granted.live] == [8, 1]
    renewed = placement.renewed(granted, granted.live[0].activated(), builders.T0)
    assert renewed.fence == 9
    assert renewed.lease_id != granted.live[0].lease_id


def test_a_budget_that_is_too_small_is_told_what_it_buys() -> None:
    wanted = builders.request(nodes=2, duration_seconds=7200)
    refusal = over_budget(builders.quote(wanted), usd(700_000))
    assert refusal is not None
    assert refusal.detail == "The booking costs at most 1.400000 USD and may cost 0.700000 USD."
    assert refusal.nearest == "2 nodes for 3600 seconds or 1 node for 7200 seconds"
    assert over_budget(builders.quote(wanted), usd(1_400_000)) is None


@given(st.integers(1, 10**12), st.integers(1, 50), st.integers(60, 10**7), st.integers(1, 10**15))
def test_what_a_budget_is_told_to_buy_it_can_buy(hourly: int, nodes: int, seconds: int, budget: int) -> None:
    wanted = builders.request(nodes=nodes, duration_seconds=seconds)
    quote = builders.quote(wanted, usd(hourly)) if hourly * nodes * seconds // 3600 < 10**17 else None
    refusal = over_budget(quote, usd(budget)) if quote else None
    if refusal is None or " seconds" not in refusal.nearest:
        return
    for offer in refusal.nearest.split(" or "):
        count, _, _, duration, _ = offer.split(" ")
        fitted = builders.request(nodes=int(count), duration_seconds=int(duration))
        assert over_budget(builders.quote(fitted, usd(hourly)), usd(budget)) is None
