"""Plans a gang on the fleet in columns: reads only, all or nothing, at a cost that follows the request.

The pools that satisfy the labels are merged best node first, so that no node is looked at but those that are taken
and the first of each pool.
"""

from collections.abc import Collection, Iterator, Sequence
from heapq import heapify, heappop, heapreplace
from itertools import islice

import msgspec
import numpy as np

from services.scheduler.domain.columns import ABSENT, FREE, GIB, ROW_MASK, Fleet, Listing, Plan, Pool, worst_key
from services.scheduler.domain.ranked import Ranked

_REMEMBERED = 4096


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of each node. `models`: the whole gang is of the first of them that has one."""

    models: tuple[str, ...]
    nodes: int
    gpus_min: int = 1
    tier_min: int = 0
    country: str | None = None
    vram_mb_min: int = 0
    reputation_millis_min: int = 0


def fits(wish: Wish, listing: Listing) -> bool:
    """All that is asked but the model."""
    return (
        listing.units >= wish.gpus_min
        and listing.tier >= wish.tier_min
        and wish.country in (None, listing.country)
        and listing.vram_mb >= wish.vram_mb_min
        and listing.reputation_millis >= wish.reputation_millis_min
    )


class Planner:
    """Plans on one fleet, and remembers which pools each combination of labels has led to; nothing else."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._shape = -1
        self._pools: dict[tuple[str, int, int, str | None, int], tuple[list[Ranked], bool]] = {}

    def plan(self, wish: Wish, exclude: Collection[str] = ()) -> Plan | None:
        """The best nodes for the first model that has enough of them, or None."""
        for model in wish.models:
            rows = self.best(model, wish, wish.nodes, exclude)
            if len(rows) == wish.nodes:
                names, fences = self.fleet.node_ids, self.fleet.fences
                planned = tuple([names[row] for row in rows]), tuple([fences[row] for row in rows])
                return Plan(self.fleet.version, model, tuple(rows), *planned)
        return None

    def best(self, model: str, wish: Wish, count: int, exclude: Collection[str] = ()) -> list[int]:
        """The rows of at most `count` nodes that fit, best first."""
        pools, in_part = self._pools_of(model, wish)
        found = _merged(pools, self.fleet.pool_of, worst_key(wish.reputation_millis_min))
        if exclude:
            out = {self.fleet.rows[node_id] for node_id in exclude if node_id in self.fleet.rows}
            found = (row for row in found if row not in out)
        if in_part:
            vram_mb = self.fleet.columns["vram_mb"]
            found = (row for row in found if vram_mb[row] >= wish.vram_mb_min)
        return list(islice(found, count))

    def _pools_of(self, model: str, wish: Wish) -> tuple[list[Ranked], bool]:
        """The free nodes of the pools that suit, and whether one of the pools does so in part only."""
        if self._shape != self.fleet.shape or len(self._pools) > _REMEMBERED:
            self._pools.clear()
            self._shape = self.fleet.shape
        labels = (model, wish.gpus_min, wish.tier_min, wish.country, wish.vram_mb_min)
        found = self._pools.get(labels)
        if found is None:
            pools = [pool for pool in self.fleet.pools.get(model, {}).values() if _suits(wish, pool)]
            in_part = any(pool.vram_gib * GIB < wish.vram_mb_min for pool in pools)
            found = self._pools[labels] = ([pool.free for pool in pools], in_part)
        return found


def funnel(fleet: Fleet, wish: Wish) -> list[tuple[str, int]]:
    """How many nodes are left after each constraint, in the order in which a shortage is explained."""
    column = {name: values[: len(fleet.node_ids)] for name, values in fleet.columns.items()}
    models, countries = fleet.codes["model"], fleet.codes["country"]
    steps: list[tuple[str, np.ndarray]] = [
        ("model", np.isin(column["model"], [models[model] for model in wish.models if model in models])),
        ("gpus", np.maximum(column["gpus"], 1) >= wish.gpus_min),
        ("tier", column["tier"] >= wish.tier_min),
        ("country", _all_or(column["country"], countries.get(wish.country, -1) if wish.country else None)),
        ("vram", column["vram_mb"] >= wish.vram_mb_min),
        ("reputation", column["reputation"] >= wish.reputation_millis_min),
        ("free", column["state"] == FREE),
    ]
    left, counts = column["state"] != ABSENT, []
    for word, holds in steps:
        left = left & holds
        counts.append((word, int(np.count_nonzero(left))))
    return counts


def _all_or(codes: np.ndarray, wanted: int | None) -> np.ndarray:
    return np.ones(len(codes), bool) if wanted is None else codes == wanted


def _suits(wish: Wish, pool: Pool) -> bool:
    """Whether some node of the pool can fit: its VRAM may be up to a GiB more than its label."""
    return (
        pool.units >= wish.gpus_min
        and pool.tier >= wish.tier_min
        and wish.country in (None, pool.country)
        and (pool.vram_gib + 1) * GIB > wish.vram_mb_min
    )


def _merged(pools: Sequence[Ranked], pool_of: Sequence[Pool], limit: int) -> Iterator[int]:
    """The rows of these pools, best first, for as long as their keys are below the limit."""
    heap = [pool.blocks[0][0] for pool in pools if pool.blocks]
    heapify(heap)
    rest: dict[Pool, Iterator[int]] = {}
    while heap:
        key = heap[0]
        if key >= limit:
            return
        row = key & ROW_MASK
        yield row
        pool = pool_of[row]
        keys = rest.get(pool)
        if keys is None:
            keys = rest[pool] = iter(pool.free)
            next(keys)
        following = next(keys, None)
        if following is None:
            heappop(heap)
        else:
            heapreplace(heap, following)
