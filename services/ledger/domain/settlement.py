"""What a booking owes, from the facts known of it: the same facts in any order, or twice, come to the same end."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from services.ledger.domain import burn
from wire.booking import LeaseSpan
from wire.values import LeaseTerms, LeaseUse, Refusal


@dataclass(frozen=True, slots=True)
class Gap:
    """A place stood empty for `gap_ms` before this lease filled it."""

    lease_id: str
    hourly: int
    gap_ms: int

    @property
    def amount(self) -> int:
        return burn.price(self.hourly, self.gap_ms)


@dataclass(frozen=True, slots=True)
class Facts:
    """A booking: `gang` as it was held, `spans` of leases that ended, and what was done about them so far.

    `escrow` is decided once; `asked` is what was asked for, `escrowed` what the wallet gave.
    """

    escrow: Literal["none", "funded", "declined"]
    asked: int
    gang: tuple[LeaseTerms, ...]
    refusal: Refusal | None
    ended: bool
    escrowed: int
    refunded: int
    spans: tuple[LeaseSpan, ...] = ()
    uses: tuple[LeaseUse, ...] = ()
    gaps: tuple[Gap, ...] = ()
    gaps_refunded: frozenset[str] = frozenset()

    @property
    def left(self) -> int:
        """What the escrow holds."""
        return self.escrowed - sum(use.cost.amount for use in self.uses) - self.refunded

    @property
    def owes(self) -> bool:
        """Leases of it have run."""
        return any(burn.billed_ms(span) for span in self.spans)

    def span(self, lease_id: str) -> LeaseSpan | None:
        return next((span for span in self.spans if span.lease.lease_id == lease_id), None)

    def gap(self, lease_id: str) -> Gap | None:
        return next((gap for gap in self.gaps if gap.lease_id == lease_id), None)

    def funded(self, amount: int, gang: tuple[LeaseTerms, ...]) -> "Facts":
        return replace(self, escrow="funded", asked=amount, escrowed=amount, gang=gang)

    def learned(self, spans: Iterable[LeaseSpan] = (), gaps: Iterable[Gap] = (), ended: bool = False) -> "Facts":
        return replace(self, spans=(*self.spans, *spans), gaps=(*self.gaps, *gaps), ended=self.ended or ended)


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be booked now; `refund` is what remains once the booking has ended."""

    charges: tuple[LeaseUse, ...]
    gaps: tuple[Gap, ...]
    refund: int


def due(facts: Facts) -> Due:
    """Charges for the leases that ended, then refunds of gaps, then, when it has ended, of everything left.

    A gap is refunded whole or not yet: each lease of the gang that still runs keeps its whole share of the escrow, and
    gaps are paid from what the ended ones have left. What cannot be refunded at once is part of the last refund.
    """
    left = facts.left
    charged = {use.lease_id for use in facts.uses}
    charges = []
    for span in sorted(facts.spans, key=lambda span: (span.started_at, span.lease.lease_id)):
        if span.lease.lease_id not in charged and span.started_at:
            use = burn.charge(span, left)
            left -= use.cost.amount
            charges.append(use)
    if facts.ended:
        return Due(tuple(charges), (), left)
    free = left - _promised(facts)
    gaps = []
    for gap in sorted(facts.gaps, key=lambda gap: gap.lease_id):
        if gap.lease_id not in facts.gaps_refunded and 0 < gap.amount <= free:
            free -= gap.amount
            gaps.append(gap)
    return Due(tuple(charges), tuple(gaps), 0)


def _promised(facts: Facts) -> int:
    """The shares of the escrow that belong to leases of the gang that have not ended."""
    over = {span.lease.lease_id for span in facts.spans}
    hourly = sum(terms.hourly.amount for terms in facts.gang)
    running = (terms.hourly.amount for terms in facts.gang if terms.lease_id not in over)
    return sum(facts.escrowed * rate // hourly for rate in running) if hourly else 0
