"""When a node is tested, what its answers are worth, and what P they give."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs import proofs
from services.prober.domain.cadence import SOONEST_MS, SUSPECT_FACTOR, next_test_at
from services.prober.domain.score import REFERENCE, SCORE_MAX, score_millionths
from services.prober.domain.verdict import Answered, Failure, Proved, judge
from wire.probe import ProofEvidence, ProofQuestion
from wire.values import ProbeReadings, Reason

SEED = "5a" * 32


def test_tests_come_as_a_poisson_process() -> None:
    chance = random.Random(7)
    waits = [next_test_at(0, 600, False, chance.random()) for _ in range(20_000)]
    mean = sum(waits) / len(waits)
    assert mean == pytest.approx(600_000, rel=0.03)
    # Exponential: as many as 1 − 1/e come before the mean, whatever has been waited already.
    assert sum(wait < 600_000 for wait in waits) / len(waits) == pytest.approx(1 - 1 / math.e, abs=0.02)
    late = [wait - 600_000 for wait in waits if wait > 600_000]
    assert sum(late) / len(late) == pytest.approx(600_000, rel=0.05)


def test_suspects_are_tested_more_often() -> None:
    assert next_test_at(0, 600, True, 0.5) == pytest.approx(next_test_at(0, 600, False, 0.5) / SUSPECT_FACTOR, abs=1)


@given(st.floats(0, 1, exclude_max=True), st.floats(1, 1e6), st.booleans())
def test_a_test_is_always_ahead(chance: float, mean: float, suspect: bool) -> None:
    assert next_test_at(5, mean, suspect, chance) >= 5 + SOONEST_MS


@pytest.mark.parametrize("chance", [-0.1, 1.0, math.nan])
def test_chance_must_be_a_chance(chance: float) -> None:
    with pytest.raises(ValueError):
        next_test_at(0, 600, False, chance)


# RNP-004's score: readings in the reference node's units and the P they give.
@pytest.mark.parametrize(
    ("bandwidth", "gflops", "memory", "clock", "score"),
    [
        (50_000, 82_580, 24 * 1024, 3_000, 1.0),
        (100_000, 82_580, 24 * 1024, 3_000, 16.0),
        (50_000, 41_290, 24 * 1024, 3_000, 0.125),
        (50_000, 82_580, 12 * 1024, 4_500, 0.375),
    ],
)
def test_score_of_rnp_004(bandwidth: int, gflops: int, memory: int, clock: int, score: float) -> None:
    readings = ProbeReadings(bandwidth_kb_s=bandwidth, gflops=gflops, memory_mb=memory, cpu_mhz=clock)
    assert score_millionths(readings) == round(score * 1e6)


def test_score_has_bounds() -> None:
    assert score_millionths(ProbeReadings(bandwidth_kb_s=0, gflops=1, memory_mb=1, cpu_mhz=1)) == 0
    huge = ProbeReadings(bandwidth_kb_s=10**12, gflops=10**9, memory_mb=10**9, cpu_mhz=10**6)
    assert score_millionths(huge) == SCORE_MAX
    assert score_millionths(REFERENCE) == 10**6


def answers(**changes: object) -> list[Answered]:
    """An honest round, with `kind=…` replaced."""
    round_ = {
        "echo": Answered(kind="echo", size=0, expected=SEED, answered=SEED, elapsed_ms=2.0),
        "product": Answered(kind="product", size=1000, expected="p", answered="p", elapsed_ms=22.0),
        "clock": Answered(kind="clock", size=100_000, expected="c", answered="c", elapsed_ms=52.0),
        "memory": Answered(kind="memory", size=64, expected="m", answered="m", elapsed_ms=200.0),
        "bandwidth": Answered(kind="bandwidth", size=200_000, expected="b", answered="b", elapsed_ms=6.0),
    }
    return list({**round_, **changes}.values())  # type: ignore[arg-type]


def test_readings_are_taken_above_the_round_trip_floor() -> None:
    readings = judge(answers())
    # 2·1000³ operations in 20 ms, 200 kB in 4 ms, 100,000 links of 1,400 cycles in 50 ms.
    assert readings == ProbeReadings(gflops=100, bandwidth_kb_s=50_000, memory_mb=64, cpu_mhz=2_800)


def test_what_all_cards_proved_at_once_is_added_up_above_the_floor() -> None:
    proof = ProofEvidence(question=ProofQuestion(epoch=SEED, nonce=SEED, order=64))
    proved = [Proved(operations=10**9, elapsed_ms=elapsed, proof=proof) for elapsed in (12.0, 22.0)]
    readings = judge(answers(), proved)
    # 10⁹ operations in 10 ms and in 20 ms: 100 and 50 GFLOP/s.
    assert isinstance(readings, ProbeReadings) and readings.gflops == 150


@pytest.mark.parametrize("kind", ["echo", "product", "clock", "memory", "bandwidth"])
@pytest.mark.parametrize(("answered", "reason"), [("forged", Reason.wrong_answer), (None, Reason.no_answer)])
def test_one_wrong_or_missing_answer_fails_the_round(kind: str, answered: str | None, reason: Reason) -> None:
    changed = Answered(kind=kind, size=1, expected="right", answered=answered, elapsed_ms=9.0)  # type: ignore[arg-type]
    finding = judge(answers(**{kind: changed}))
    assert isinstance(finding, Failure)
    assert (finding.kind, finding.reason) == (kind, reason)


def test_declining_is_not_a_way_out() -> None:
    declined = Answered(kind="memory", size=64, expected="m", answered="", declined="busy", elapsed_ms=1.0)
    finding = judge(answers(memory=declined))
    assert isinstance(finding, Failure)
    assert finding.reason is Reason.no_answer


@given(st.integers(1, 40))
def test_products_are_exact(order: int) -> None:
    import hashlib

    def matrix(label: str) -> list[list[int]]:
        data = hashlib.shake_256(f"{SEED}/{label}".encode()).digest(order * order)
        return [[(byte & 15) - 8 for byte in data[row * order : (row + 1) * order]] for row in range(order)]

    a, b = matrix("A"), matrix("B")
    columns = list(zip(*b, strict=True))
    product = [sum(x * y for x, y in zip(row, column, strict=True)) for row in a for column in columns]
    packed = b"".join(value.to_bytes(4, "little", signed=True) for value in product)
    assert proofs.product_digest(SEED, order) == hashlib.sha256(packed).hexdigest()


def test_the_memory_walk_is_the_same_for_both_sides() -> None:
    assert proofs.memory_digest_filled(SEED, 2) == proofs.memory_digest_checked(SEED, 2)
    assert proofs.memory_digest_checked(SEED, 2) != proofs.memory_digest_checked(SEED, 3)
    assert proofs.memory_digest_checked(SEED, 2) != proofs.memory_digest_checked("5b" * 32, 2)


@pytest.mark.parametrize(
    ("work", "size"),
    [
        (proofs.product_digest, 0),
        (proofs.product_digest, proofs.PRODUCT_ORDER_MAX + 1),
        (proofs.chain_digest, proofs.CHAIN_LINKS_MAX + 1),
        (proofs.memory_digest_filled, proofs.MEMORY_MB_MAX + 1),
        (proofs.payload, proofs.PAYLOAD_BYTES_MAX + 1),
        (proofs.payload, -1),
    ],
)
def test_sizes_are_bounded(work: object, size: int) -> None:
    with pytest.raises(ValueError):
        work(SEED, size)  # type: ignore[operator]
