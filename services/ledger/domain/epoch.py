"""Closing an epoch: who earned what from its two pools, and what nobody earned and goes on to the next."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.ledger.domain import transfer
from services.ledger.domain.account import Pool
from services.ledger.domain.emission import Emission
from services.ledger.domain.rewards import rnp004
from services.ledger.domain.transfer import Transfer
from wire.ledger import NodeReward
from wire.values import Money


@dataclass(frozen=True, slots=True)
class Score:
    """A node's P of the epoch: exact, and in millionths of the reference node's for display."""

    weight: int
    millionths: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """The epoch that runs; `carried_in` is what earlier epochs left in each reserve."""

    number: int
    started_at: int
    emission: Emission
    carried_in: Emission


@dataclass(frozen=True, slots=True)
class Closing:
    """What closing books and says; amounts in base units of RENDER, USD in micros."""

    usd_compute: int
    usd_render: int
    compute_pool: int
    availability_pool: int
    carried_over: int
    rewards: tuple[NodeReward, ...]
    transfers: tuple[Transfer, ...]


def close(epoch: Epoch, coupons: Mapping[str, int], scores: Mapping[str, Score], usd_render: int) -> Closing:
    """RNP-004 with U_compute = the USD burned for compute = all coupons of the epoch."""
    usd_compute = sum(coupons.values())
    minted = Emission(rnp004.compute_pool(epoch.emission.job, usd_compute, usd_render), epoch.emission.availability)
    weights = {node: score.weight for node, score in scores.items()}
    compute_pool = minted.job + epoch.carried_in.job
    availability_pool = minted.availability + epoch.carried_in.availability
    jobs = rnp004.shares(compute_pool, coupons)
    availability = rnp004.shares(availability_pool, weights)
    rewards = tuple(
        NodeReward(
            node_id=node,
            coupons=Money(coupons.get(node, 0), "COUPON"),
            score_millionths=scores[node].millionths if node in scores else 0,
            job_reward=Money(jobs.get(node, 0), "RENDER"),
            availability_reward=Money(availability.get(node, 0), "RENDER"),
            weight=str(weights.get(node, 0)),
        )
        for node in sorted(coupons.keys() | scores.keys())
    )
    return Closing(
        usd_compute=usd_compute,
        usd_render=usd_render,
        compute_pool=compute_pool,
        availability_pool=availability_pool,
        carried_over=compute_pool - sum(jobs.values()) + availability_pool - sum(availability.values()),
        rewards=rewards,
        transfers=(
            *_of_pool(epoch, "job", minted.job, epoch.carried_in.job, jobs),
            *_of_pool(epoch, "availability", minted.availability, epoch.carried_in.availability, availability),
        ),
    )


def _of_pool(epoch: Epoch, name: Pool, minted: int, carried_in: int, paid: Mapping[str, int]) -> tuple[Transfer, ...]:
    return transfer.moving(
        (
            transfer.mint(epoch.number, name, minted),
            transfer.carry_in(epoch.number, name, carried_in),
            *(transfer.reward(epoch.number, name, node, paid[node]) for node in sorted(paid)),
            transfer.carry_over(epoch.number, name, minted + carried_in - sum(paid.values())),
        )
    )
