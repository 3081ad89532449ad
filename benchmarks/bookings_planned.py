"""Figure `bookings_planned`: small bookings planned, leased and released on the scheduler's fleet of 100,000 nodes.

The decisions alone: what holds, escrow and commits add is not here. Rates are per second of processor time, since
other work on the machine does not count, and the best of several rounds.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable
from random import Random

from benchmarks import harness
from benchmarks.fleets.market import COUNTRIES, MODELS, market
from services.scheduler.domain.columns import Fleet, Plan
from services.scheduler.domain.gang import Planner, Wish

GOAL = 50_000
NODES, ROUNDS, BOOKINGS, IN_FLIGHT = 100_000, 7, 20_000, 512


def small(random: Random) -> Wish:
    """1 to 8 GPUs, in nodes of any size."""
    gpus = random.choice((1, 2, 4, 8))
    return Wish(
        models=(random.choice(list(MODELS)[:8]),),
        nodes=random.randint(1, 8 // gpus),
        gpus_min=gpus,
        tier_min=random.randrange(4),
        country=random.choice(COUNTRIES[:5]),
    )


def single(random: Random) -> Wish:
    """1 to 8 GPUs, in as many nodes."""
    wish = small(random)
    return Wish(models=wish.models, nodes=random.randint(1, 8), tier_min=wish.tier_min, country=wish.country)


def book(fleet: Fleet, kind: Callable[[Random], Wish], seed: int) -> float:
    """Bookings planned, leased and released again, a second; the oldest of 512 that are under way is released."""
    random, planner = Random(seed), Planner(fleet)
    wishes = [kind(random) for _ in range(BOOKINGS)]
    held: deque[Plan] = deque()
    booked = 0
    started = time.process_time()
    for now, wish in enumerate(wishes):
        plan = planner.plan(wish)
        if plan is None:
            continue
        booked += 1
        fleet.lease(plan, now)
        held.append(plan)
        if len(held) > IN_FLIGHT:
            fleet.free(held.popleft().node_ids)
    for plan in held:
        fleet.free(plan.node_ids)
    return booked / (time.process_time() - started)


def main() -> None:
    fleet = Fleet(market(NODES))
    gc.freeze()  # a collection would look at every node for garbage that is not there
    mixed = [book(fleet, small, seed) for seed in range(ROUNDS)]
    singles = [book(fleet, single, seed) for seed in range(ROUNDS)]
    harness.table(
        ["bookings a second of one core", "worst", "best"],
        [
            ("1-8 GPUs in nodes of any size", min(mixed), max(mixed)),
            ("1-8 nodes, a GPU each", min(singles), max(singles)),
        ],
    )
    harness.conclude(
        "bookings_planned",
        max(mixed),
        "bookings/s",
        f"{max(singles):,.0f}/s where each GPU is a node of its own",
        f"≥ {GOAL:,}",
        holds=max(mixed) >= GOAL,
    )


if __name__ == "__main__":
    main()
