"""Surge does not oscillate: a day and a half of a market that answers prices, under three ways to make them.

    python -m benchmarks.surge [--plot FILE.svg]

A pool of 400 nodes; customers come by chance, in the evening more of them than the pool has nodes, and the fewer the
higher the price they were last told (elasticity 3: a tenth more price, a quarter fewer orders). A booking lasts an hour
on average. `step` doubles half the price above 85 % use, as one would at first; `curve` is pricing's own curve applied
to the use of the moment; `surge` is what pricing does: the mean of use, the curve, and the band between both ways.
A turn is a change of direction after a move of at least 2 % of the price.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from benchmarks.harness import conclude, table
from bivouac.chart import Axis, Series, chart
from services.pricing.domain.factors.supply import Surge, advance, curve
from services.pricing.domain.policy import Policy
from services.pricing.domain.standing import SURGE_WHOLE

NODES, HOURS, STEP_SECONDS, ELASTICITY = 400, 36, 5, 3.0
POLICY = Policy()
SEEDS = range(5)
Price = Callable[[int, int], int]
"""(leased nodes, Unix ms) → price in millionths of the one without surge."""


def step() -> Price:
    return lambda used, at: 1_500_000 if used * 100 > NODES * 85 else SURGE_WHOLE


def bare_curve() -> Price:
    return lambda used, at: curve(used * SURGE_WHOLE // NODES, POLICY)


def surge() -> Price:
    state = Surge()

    def price(used: int, at: int) -> int:
        nonlocal state
        state = advance(state, used, NODES, at, POLICY)
        return state.level

    return price


def simulate(price_of: Price, seed: int) -> tuple[list[float], list[float]]:
    """Use and price at each step; the same seed brings the same chance to each way of pricing."""
    chance = random.Random(seed)
    used, told = 0, SURGE_WHOLE
    uses, prices = [], []
    for now in range(0, HOURS * 3600, STEP_SECONDS):
        evening = 0.85 + 0.4 * math.sin((now / 3600 - 6) / 24 * 2 * math.pi)
        orders = NODES * evening * STEP_SECONDS / 3600 * (told / SURGE_WHOLE) ** -ELASTICITY
        used = min(NODES, used + poisson(chance, orders))
        used -= poisson(chance, used * STEP_SECONDS / 3600)
        used = max(0, used)
        told = price_of(used, 1 + now * 1000)
        uses.append(used / NODES)
        prices.append(told / SURGE_WHOLE)
    return uses, prices


def poisson(chance: random.Random, mean: float) -> int:
    """Knuth's way, good for the small means of a step of seconds."""
    limit, product, count = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count


def turns(prices: list[float], least: float = 0.02) -> int:
    """How often the price changed its direction, moves of less than `least` left out."""
    count, direction, extreme = 0, 0, prices[0]
    for price in prices:
        if direction >= 0 and price <= extreme - least:
            count, direction, extreme = count + (direction > 0), -1, price
        elif direction <= 0 and price >= extreme + least:
            count, direction, extreme = count + (direction < 0), 1, price
        elif (price - extreme) * direction > 0 or (direction == 0 and price != extreme):
            extreme = price if direction else extreme
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", metavar="FILE.svg", help="write price over time as SVG")
    plot = parser.parse_args().plot
    ways = {"step": step, "curve": bare_curve, "surge": surge}
    rows, found, drawn = [], {}, []
    for name, make in ways.items():
        runs = [simulate(make(), seed) for seed in SEEDS]
        prices = [price for _, told in runs for price in told]
        moves = [abs(b - a) for _, told in runs for a, b in pairwise(told)]
        found[name] = sum(turns(told) for _, told in runs) / len(runs)
        full = sum(use >= 1 for uses, _ in runs for use in uses) / len(prices) * 100
        rows.append((name, found[name], max(prices), max(moves) * 100, full))
        hours = [n * STEP_SECONDS / 3600 for n in range(len(runs[0][1]))]
        drawn.append(Series(name, list(zip(hours, runs[0][1], strict=True))[::24]))
        bounded = min(prices) >= 1 and max(prices) <= POLICY.surge_price_max / 1000
        assert bounded, f"{name} left its bounds"
    table(("way", f"turns in {HOURS} h", "highest price", "largest step %", "pool full % of time"), rows)
    if plot:
        axes = Axis("hours"), Axis("price, of the price without surge")
        Path(plot).write_text(chart("Surge on a day and a half", *axes, drawn), encoding="utf-8")
    value = found["surge"]
    conclude(
        "surge",
        value,
        f"turns in {HOURS} h",
        f"step {found['step']:.1f}, curve {found['curve']:.1f} turns",
        "at most 6 turns, and at most a tenth of the bare curve's",
        holds=value <= 6 and value * 10 <= found["curve"],
    )


if __name__ == "__main__":
    main()
