"""The fleet of liars: each is caught as often as theory says, and the honest are never refused."""

import pytest

from benchmarks.proof_escape import OPENED, ORDER, UNSEEN_BY_DESIGN, Tally, tally, works
from libs.proofs.verifier import Secret
from services.prober.adversaries import FLEET, Work, escape

TRIALS = 60


@pytest.fixture(scope="module")
def made() -> list[Work]:
    return works(1)


@pytest.fixture(scope="module")
def secret(made: list[Work]) -> Secret:
    return Secret(made[0].question.epoch, ORDER, bytes(range(256)) * (ORDER // 64))


@pytest.mark.parametrize("cheat", FLEET)
def test_each_liar_is_caught_as_often_as_theory_says(cheat: str, made: list[Work], secret: Secret) -> None:
    seen: Tally = tally(cheat, made, secret, TRIALS, seed=5)
    spread = (seen.theory * (1 - seen.theory) / TRIALS) ** 0.5
    assert abs(seen.caught / TRIALS - seen.theory) <= 4.5 * spread + 1e-9
    assert (seen.caught == 0) == (cheat == "honest") or cheat == "one wrong row"
    if cheat not in UNSEEN_BY_DESIGN:
        assert seen.caught == TRIALS


def test_escape_is_the_power_that_trust_promises() -> None:
    assert escape(10**6, 50_000, OPENED) == pytest.approx(0.95**OPENED, rel=0.01)
    assert escape(1024, 0, OPENED) == 1
    assert escape(1024, 1024, OPENED) == 0
