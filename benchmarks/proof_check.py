"""proof_check: processor time the verifier spends on one proof of GPU, against the prover's time in the same run.

The check is timed as the prober does it: the rows that were opened, all paths, and the comparison with the secret.
"""

import argparse
import random
import secrets
import statistics
import time

from benchmarks.harness import conclude, table
from libs.proofs.prover import Prover, device_of
from libs.proofs.verifier import Question, Secret, check, draw_cells

OPENED = 64
GOALS_MS = {4096: 10.0, 8192: 40.0}


def measured(order: int, checks: int) -> tuple[float, float, float, float]:
    """Seconds of the prover, ms of the median check, nodes a second, and seconds to make the secret once."""
    question = Question(
        order=order, epoch=secrets.token_bytes(32), node="U" + "A" * 55, card=0, nonce=secrets.token_bytes(32)
    )
    started = time.process_time()
    secret = Secret(question.epoch, order, secrets.token_bytes(4 * order))
    once = time.process_time() - started
    prover = Prover(question.epoch, order, device_of(0))
    started = time.perf_counter()
    root = prover.commit(question, question.node, question.card, question.nonce)
    proving = time.perf_counter() - started
    cells = draw_cells(question, OPENED, random.Random(1))
    openings = prover.open(cells)
    times = []
    for _ in range(checks):
        started = time.process_time()
        check(question, secret, root, cells, openings)
        times.append(time.process_time() - started)
    spent = statistics.median(times)
    return proving, spent * 1000, 1 / spent, once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, nargs="+", default=list(GOALS_MS))
    parser.add_argument("--checks", type=int, default=50)
    asked = parser.parse_args()
    found = {order: measured(order, asked.checks) for order in asked.orders}
    table(
        ("n", "prover s", "check ms", "nodes/s", "secret s, once an epoch"),
        [(order, *(float(value) for value in values)) for order, values in found.items()],
    )
    holds = all(found[order][1] <= goal for order, goal in GOALS_MS.items() if order in found)
    largest = max(found)
    proving, spent, *_ = found[largest]
    conclude(
        "proof_check",
        spent,
        "ms",
        f"n = {largest}, {OPENED} rows; the prover took {proving:.1f} s, {1000 * proving / spent:,.0f} times as long",
        "≤ 10 ms at n = 4096, ≤ 40 ms at n = 8192",
        holds=holds,
    )


if __name__ == "__main__":
    main()
