"""How far a node is trusted: the interval against SciPy's, and the laws of evidence."""

from itertools import permutations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from services.reputation.domain import evidence as weighed
from services.reputation.domain.beta import beta_cdf
from services.reputation.domain.evidence import Evidence, Weights
from services.reputation.domain.rank import rank
from services.reputation.domain.score import Interval, Standing, absorbed, faded, interval
from wire.booking import LeaseEnded
from wire.node import NodeLost
from wire.probe import ProbeFailed, ProbePassed
from wire.values import LeaseTerms, ProbeReadings, Reason, usd

NODE = "U" + "A" * 55
DAY = 86_400_000
HALF_LIFE = 30 * DAY
W = Weights()
UNIT = 10**9
PRIOR = interval(Standing())

amounts = st.integers(0, 5_000 * UNIT)


def bounds(good: float, bad: float) -> Interval:
    return interval(Standing(round(good * UNIT), round(bad * UNIT)))


@given(st.floats(1, 1e4), st.floats(1, 1e4), st.floats(0, 1))
def test_the_distribution_is_scipys(a: float, b: float, x: float) -> None:
    assert beta_cdf(x, a, b) == pytest.approx(float(stats.beta.cdf(x, a, b)), abs=1e-9)


@given(amounts, amounts)
def test_the_interval_is_scipys_to_the_thousandth(good: int, bad: int) -> None:
    a, b = 1 + good / UNIT, 1 + bad / UNIT
    found = interval(Standing(good, bad))
    # Outwards to the thousandth; a quantile within a millionth of one may be rounded either way.
    assert -1e-3 <= 1000 * stats.beta.ppf(0.05, a, b) - found.lower_millis <= 1 + 1e-3
    assert -1e-3 <= found.upper_millis - 1000 * stats.beta.ppf(0.95, a, b) <= 1 + 1e-3
    assert found.mean_millis == round(1000 * a / (a + b))
    assert 0 <= found.lower_millis <= found.mean_millis <= found.upper_millis <= 1000


def test_a_new_node_is_unknown_not_bad() -> None:
    assert Interval(50, 500, 950) == PRIOR
    assert bounds(0, 20).lower_millis < PRIOR.lower_millis < bounds(2, 0).lower_millis


@given(amounts, amounts, st.integers(0, 50 * UNIT))
def test_good_evidence_never_lowers_and_bad_never_raises(good: int, bad: int, more: int) -> None:
    before = interval(Standing(good, bad))
    better, worse = interval(Standing(good + more, bad)), interval(Standing(good, bad + more))
    for one in ("lower_millis", "mean_millis", "upper_millis"):
        assert getattr(worse, one) <= getattr(before, one) <= getattr(better, one)


@given(st.integers(10 * UNIT, 5_000 * UNIT), st.integers(0, 400))
def test_one_wrong_answer_takes_more_than_twenty_right_ones_give_back(good: int, bad_permille: int) -> None:
    bad = good * bad_permille // 1000
    before = interval(Standing(good, bad)).lower_millis
    wrong = weighed.of_probe_failed(failed(Reason.wrong_answer), W).bad_millis * 10**6
    assert interval(Standing(good + 20 * UNIT, bad + wrong)).lower_millis < before


def test_a_hundred_right_answers_do_not_survive_one_wrong_one() -> None:
    assert bounds(100, 0).lower_millis == 970
    assert bounds(100, 20).lower_millis == 768
    # It takes six hundred more to be believed as before.
    assert bounds(650, 20).lower_millis < 970 <= bounds(1000, 20).lower_millis


@given(st.integers(0, 500 * UNIT), st.integers(0, 500 * UNIT), st.integers(1, 400))
def test_decay_pulls_towards_what_is_believed_of_a_stranger(good: int, bad: int, days: int) -> None:
    known = Standing(good, bad, at=0)
    now, then = interval(known), interval(faded(known, days * DAY, HALF_LIFE))
    if good >= bad:
        assert PRIOR.mean_millis <= then.mean_millis <= now.mean_millis
    if good <= bad:
        assert now.mean_millis <= then.mean_millis <= PRIOR.mean_millis
    gone = interval(faded(known, 40 * HALF_LIFE, HALF_LIFE))
    assert gone == PRIOR


def test_evidence_weighs_half_after_a_half_life() -> None:
    assert faded(Standing(80 * UNIT, 20 * UNIT, at=5), 5 + HALF_LIFE, HALF_LIFE) == Standing(
        40 * UNIT, 10 * UNIT, 5 + HALF_LIFE
    )
    assert faded(Standing(7, 7, at=5), 4, HALF_LIFE) == Standing(7, 7, 5)


events = st.builds(
    Evidence,
    at=st.integers(0, 90 * DAY),
    because=st.just("x"),
    good_millis=st.integers(0, 20_000),
    bad_millis=st.integers(0, 20_000),
)


@given(st.lists(events, min_size=1, max_size=4))
def test_the_order_of_arrival_does_not_matter(happened: list[Evidence]) -> None:
    ends = []
    for order in permutations(happened):
        standing = Standing()
        for event in order:
            standing = absorbed(standing, event, HALF_LIFE)
        ends.append(standing)
    newest = max(event.at for event in happened)
    exact = sum(event.good_millis * 10**6 * 2 ** (-(newest - event.at) / HALF_LIFE) for event in happened)
    for standing in ends:
        assert standing.at == newest
        assert standing.good_nanos == pytest.approx(exact, abs=10)  # billionths of a test job


@given(amounts, amounts, st.lists(st.integers(1, 100), min_size=2, max_size=6))
def test_splitting_a_record_over_identities_never_pays(good: int, bad: int, parts: list[int]) -> None:
    """One machine under m names: its evidence divides among them, and no name stands higher than the machine would.

    For records no worse than a stranger's; who is worse can always come back as a stranger, and is believed as one.
    """
    assume(good >= bad)
    whole = interval(Standing(good, bad)).lower_millis
    for part in parts:
        one = interval(Standing(good * part // sum(parts), bad * part // sum(parts))).lower_millis
        assert one <= whole


@given(amounts, st.lists(st.integers(0, 100), min_size=2, max_size=6))
def test_a_clean_record_is_worth_most_under_one_name(good: int, parts: list[int]) -> None:
    assume(sum(parts))
    whole = interval(Standing(good)).lower_millis
    assert all(interval(Standing(good * part // sum(parts))).lower_millis <= whole for part in parts)


def failed(reason: Reason) -> ProbeFailed:
    return ProbeFailed(node_id=NODE, at=9, probe_id="p", kind="product", reason=reason, detail="", seed="0" * 64)


def lease(reason: str, started_at: int, ended_at: int) -> LeaseEnded:
    terms = LeaseTerms(lease_id="l", node_id=NODE, fence=1, hourly=usd(1))
    return LeaseEnded(
        partner="acme",
        booking_id="b",
        at=ended_at,
        lease=terms,
        started_at=started_at,
        ended_at=ended_at,
        reason=reason,  # type: ignore[arg-type]
    )


def weight(evidence: Evidence | None) -> tuple[int, int] | None:
    return None if evidence is None else (evidence.good_millis, evidence.bad_millis)


def test_what_a_test_job_says() -> None:
    readings = ProbeReadings(bandwidth_kb_s=1, memory_mb=1, cpu_mhz=1, gflops=1)
    passed = ProbePassed(node_id=NODE, at=9, probe_id="p", readings=readings, score_millionths=1)
    assert weight(weighed.of_probe_passed(passed, W)) == (1_000, 0)
    bad = {reason: weight(weighed.of_probe_failed(failed(reason), W)) for reason in Reason}
    assert bad[Reason.wrong_answer] == bad[Reason.malformed] == (0, 20_000)
    assert bad[Reason.too_slow] == (0, 2_000)
    assert bad[Reason.no_answer] == (0, 5_000)


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (lease("released", 1, 1 + 3_600_000), (250, 0)),
        (lease("expired", 1, 1 + 10 * DAY), (6_000, 0)),
        (lease("released", 0, 3_600_000), None),
        (lease("node_lost", 1, 3_600_000), (0, 10_000)),
        (lease("node_lost", 0, 3_600_000), (0, 10_000)),
        (lease("node_left", 1, 3_600_000), None),
        (lease("start_failed", 0, 3_600_000), (0, 1_000)),
        (lease("cluster_failed", 1, 3_600_000), None),
        (lease("banned", 1, 3_600_000), None),
    ],
    ids=lambda value: value.reason if isinstance(value, LeaseEnded) else str(value),
)
def test_what_a_lease_says(ended: LeaseEnded, expected: tuple[int, int] | None) -> None:
    assert weight(weighed.of_lease_ended(ended, W)) == expected


def test_what_a_loss_says() -> None:
    lost = NodeLost(node_id=NODE, at=9, reason="silent", last_seen_at=1)
    assert weight(weighed.of_node_lost(lost, W)) == (0, 1_000)
    held = NodeLost(node_id=NODE, at=9, reason="disconnected", last_seen_at=1, lease_ids=("l",))
    assert weighed.of_node_lost(held, W) is None, "each broken lease says it already"
    assert weighed.of_node_lost(NodeLost(node_id=NODE, reason="banned", last_seen_at=1), W) is None


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 1000), min_size=1, max_size=8), st.data())
def test_equals_share_a_rank_and_nobody_stands_in_his_own_way(board: dict[str, int], data: st.DataObject) -> None:
    node = data.draw(st.sampled_from(sorted(board)))
    now = data.draw(st.integers(0, 1000))  # what the rows say, when the board still says board[node]
    higher_on_board = sum(lower > now for lower in board.values())
    others = sum(lower > now for other, lower in board.items() if other != node)
    assert rank(now, higher_on_board, board[node]) == 1 + others
    assert rank(now, others, None) == 1 + others
