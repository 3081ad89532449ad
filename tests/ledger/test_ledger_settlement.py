"""Settlement as arithmetic: whatever a booking's history, what was escrowed is what was charged and refunded."""

from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.domain import burn, funding
from services.ledger.domain.settlement import Facts, Gap, due
from tests.ledger.builders import HOUR, HOURLY, T0, escrow_for, held, lease, span
from wire.booking import LeaseSpan
from wire.values import LeaseUse


@dataclass(frozen=True)
class History:
    """A booking of `gang` places for `ms`: each place a chain of leases with gaps between them, all within the time."""

    gang: int
    ms: int
    hourly: int
    spans: tuple[LeaseSpan, ...]
    gaps: tuple[Gap, ...]


@st.composite
def histories(draw: st.DrawFn) -> History:
    gang, ms = draw(st.integers(1, 5)), draw(st.integers(60_000, 30 * 24 * HOUR))
    hourly = draw(st.integers(1, 10**9))
    spans, gaps, number = [], [], gang
    for place in range(gang):
        cuts = sorted(draw(st.lists(st.integers(0, ms), min_size=1, max_size=7)))
        at = 0
        for index, cut in enumerate(cuts):
            if index % 2:  # every second piece is a gap, which the next lease fills
                gaps.append(Gap(f"lse_{number}", hourly, cut - at))
            else:
                spans.append(span(place if index == 0 else number, T0 + at, T0 + cut, hourly))
                number += index > 0
            at = cut
    return History(gang, ms, hourly, tuple(spans), tuple(gaps))


def facts(history: History, *, spans: int = -1, gaps: int = -1, ended: bool = False) -> Facts:
    return Facts(
        escrow="funded",
        asked=escrow_for(history.gang, history.ms, history.hourly),
        gang=tuple(lease(number, history.hourly) for number in range(history.gang)),
        refusal=None,
        ended=ended,
        escrowed=escrow_for(history.gang, history.ms, history.hourly),
        refunded=0,
        spans=history.spans if spans < 0 else history.spans[:spans],
        gaps=history.gaps if gaps < 0 else history.gaps[:gaps],
    )


@dataclass
class Run:
    """Facts that grow, with what was done about them after each step."""

    facts: Facts

    def step(self, spans: tuple[LeaseSpan, ...] = (), gaps: tuple[Gap, ...] = (), ended: bool = False) -> int:
        """Returns what was refunded at the end."""
        grown = self.facts.learned(spans, gaps, ended)
        owed = due(grown)
        refunded = sum(gap.amount for gap in owed.gaps) + owed.refund
        self.facts = replace(
            grown,
            uses=(*grown.uses, *owed.charges),
            gaps_refunded=grown.gaps_refunded | {gap.lease_id for gap in owed.gaps},
            refunded=grown.refunded + refunded,
        )
        assert self.facts.left >= 0, "the escrow is never overspent"
        return owed.refund


def result(run: Run) -> tuple[tuple[LeaseUse, ...], int]:
    return tuple(sorted(run.facts.uses, key=lambda use: use.lease_id)), run.facts.refunded


@given(histories(), st.randoms())
def test_any_order_of_the_facts_comes_to_the_same_and_nothing_is_lost(history: History, chance: Random) -> None:
    at_once = Run(facts(history, spans=0, gaps=0))
    at_once.step(history.spans, history.gaps, ended=True)
    steps: list[LeaseSpan | Gap] = [*history.spans, *history.gaps]
    chance.shuffle(steps)
    one_by_one = Run(facts(history, spans=0, gaps=0))
    for one in steps:
        if isinstance(one, Gap):
            one_by_one.step(gaps=(one,))
        else:
            one_by_one.step(spans=(one,))
    one_by_one.step(ended=True)
    assert result(one_by_one) == result(at_once)
    assert one_by_one.facts.left == 0
    uses, refunded = result(one_by_one)
    assert one_by_one.facts.escrowed == sum(use.cost.amount for use in uses) + refunded


@given(histories())
def test_every_lease_is_paid_in_full_and_cost_is_fee_and_burned(history: History) -> None:
    run = Run(facts(history, spans=0, gaps=0))
    run.step(history.spans, history.gaps)
    run.step(ended=True)
    for ran in history.spans:
        (use,) = [use for use in run.facts.uses if use.lease_id == ran.lease.lease_id]
        assert use.billed_ms == ran.ended_at - ran.started_at
        assert use.cost.amount == history.hourly * use.billed_ms // HOUR
        assert use.cost.amount == use.fee.amount + use.burned.amount
        assert use.burned.amount == use.coupons.amount == use.cost.amount * 95 // 100


@given(histories())
def test_a_gap_is_refunded_at_once_where_its_lost_lease_is_known(history: History) -> None:
    run = Run(facts(history, spans=0, gaps=0))
    run.step(history.spans)
    run.step((), history.gaps)
    assert run.facts.gaps_refunded == {gap.lease_id for gap in history.gaps if gap.amount}


@given(st.integers(0, 10**12), st.integers(0, 10**10), st.integers(0, 10**12))
def test_a_charge_never_exceeds_what_is_left_and_its_figures_agree(hourly: int, ms: int, left: int) -> None:
    use = burn.charge(span(0, T0, T0 + ms, hourly), left)
    assert use.cost.amount == min(use.cost.amount, left)
    assert use.cost.amount == hourly * use.billed_ms // HOUR
    assert use.billed_ms == ms or burn.price(hourly, use.billed_ms + 1) > left


def test_a_lease_that_never_began_costs_nothing() -> None:
    assert burn.billed_ms(span(0, 0, T0)) == 0
    assert burn.billed_ms(span(0, T0, T0 - 5)) == 0
    assert burn.charge(span(0, T0, T0 + 1), 10**9).cost.amount == HOURLY // HOUR


def test_render_is_bought_to_the_unit_and_rounded_down() -> None:
    assert burn.render_for(4_000_000, 4_000_000) == 10**8
    assert burn.render_for(1, 3_000_000) == 33
    assert burn.render_for(0, 4_000_000) == 0


@pytest.mark.parametrize(
    ("wallet", "text"),
    [
        (0, "Make a deposit of 0.740278 USD."),
        (370_139, "The wallet covers 1 of 2 nodes for the whole time or 2 nodes for 30 minutes; or make a deposit of "),
        (100, "Make a deposit of 0.740178 USD."),
        (20_000, "The wallet covers 2 nodes for 1 minutes; or make a deposit of 0.720278 USD."),
    ],
)
def test_what_the_wallet_would_cover_is_named(wallet: int, text: str) -> None:
    assert funding.nearest(held(), wallet).startswith(text)
