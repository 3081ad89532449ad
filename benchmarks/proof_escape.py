"""proof_escape: how often each lie about a proof of GPU goes unseen, against theory, and honest answers are refused.

Each trial is a lie drawn anew, committed, opened at 64 rows drawn by the verifier, and checked. The order is small,
because what escapes depends on the share of wrong rows, not on their length. Time decides nothing here: a proof
is right or wrong, and bands of time per model are not learned yet.
"""

import argparse
import hashlib
import random
import secrets
import time
from typing import NamedTuple

import numpy as np

from benchmarks.harness import conclude, table
from libs.proofs.verifier import Fault, Question, Secret, check, draw_cells
from services.prober.adversaries import FLEET, Work, escape

ORDER, STEPS, OPENED = 512, 2, 64
GOALS = {"skips 5 %": 0.04, "skips 10 %": 0.002}
UNSEEN_BY_DESIGN = {"honest", "skips 5 %", "skips 10 %", "skips 1 %", "one wrong row"}


class Tally(NamedTuple):
    cheat: str
    trials: int
    caught: int
    theory: float
    check_ms: float

    @property
    def escaped(self) -> float:
        return 1 - self.caught / self.trials


def works(count: int) -> list[Work]:
    return [
        Work(
            Question(
                order=ORDER,
                steps=STEPS,
                epoch=hashlib.sha256(b"escape").digest(),
                node="U" + "A" * 55,
                card=0,
                nonce=secrets.token_bytes(32),
            )
        )
        for _ in range(count)
    ]


def tally(cheat: str, made: list[Work], secret: Secret, trials: int, seed: int) -> Tally:
    chance, cells_chance = np.random.default_rng(seed), random.Random(seed)
    caught, escapes, spent = 0, 0.0, 0.0
    for trial in range(trials):
        work = made[trial % len(made)]
        answer = FLEET[cheat](work, chance)
        cells = draw_cells(work.question, OPENED, cells_chance)
        openings = answer.open(cells)
        started = time.process_time()
        try:
            check(work.question, secret, answer.root, cells, openings)
        except Fault:
            caught += 1
        spent += time.process_time() - started
        escapes += escape(work.question.leaves, answer.wrong, OPENED)
    return Tally(cheat, trials, caught, 1 - escapes / trials, spent / trials * 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    made = works(4)
    secret = Secret(made[0].question.epoch, ORDER, secrets.token_bytes(4 * ORDER))
    tallies = {}
    for number, cheat in enumerate(FLEET):
        # What rarely happens takes more trials to be seen rarely.
        more = 3 if cheat in {*GOALS, "honest"} else 1
        tallies[cheat] = tally(cheat, made, secret, trials * more, number)
    table(
        ("prover", "trials", "caught %", "theory %", "check ms"),
        [
            (one.cheat, one.trials, 100.0 * one.caught / one.trials, 100 * one.theory, one.check_ms)
            for one in tallies.values()
        ],
    )
    refused = tallies["honest"].caught / tallies["honest"].trials
    holds = refused <= 0.001 and all(tallies[cheat].escaped <= goal for cheat, goal in GOALS.items())
    holds = holds and all(one.escaped <= 0.01 for one in tallies.values() if one.cheat not in UNSEEN_BY_DESIGN)
    print(f"honest answers refused: {100 * refused:.2f} %; a share f of right rows passes with f^{OPENED}")
    conclude(
        "proof_escape",
        100 * tallies["skips 5 %"].escaped,
        "%",
        f"5 % of the rows skipped, {OPENED} opened; 10 % skipped: {100 * tallies['skips 10 %'].escaped:.2f} %",
        "≤ 4 % (10 %: ≤ 0.2 %; honest refused ≤ 0.1 %; other lies caught ≥ 99 %)",
        holds=holds,
    )


if __name__ == "__main__":
    main()
