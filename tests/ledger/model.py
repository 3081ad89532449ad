"""The ledger as a few dictionaries: what a person would compute with a pencil, to hold the real one against."""

from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction

HOUR = 3_600_000


@dataclass
class Booking:
    """A booking of one price; leases are known by number, those below `nodes` are the gang."""

    nodes: int
    hourly: int
    asked: int
    escrow: str = "none"
    ended: bool = False
    ran: dict[int, tuple[int, int]] = field(default_factory=dict)
    gaps: dict[int, int] = field(default_factory=dict)
    charged: set[int] = field(default_factory=set)
    refunded_gaps: set[int] = field(default_factory=set)
    left: int = 0


def price(hourly: int, ms: int) -> int:
    return int(Fraction(hourly * ms, HOUR))


def share_out(pool: int, weights: dict[int, int]) -> dict[int, int]:
    """Largest remainder, ties by number."""
    total = sum(weights.values())
    if not total:
        return {}
    exact = {node: Fraction(pool * weight, total) for node, weight in weights.items()}
    paid = {node: int(share) for node, share in exact.items()}
    by_remainder = sorted(weights, key=lambda node: (paid[node] - exact[node], node))
    for node in by_remainder[: pool - sum(paid.values())]:
        paid[node] += 1
    return paid


class Model:
    """Money by account; `render` is what one RENDER costs in micro-USD."""

    def __init__(self, render: int, emission: int, availability: int, usd_render: int) -> None:
        self.render, self.emission, self.availability, self.usd_render = render, emission, availability, usd_render
        self.wallets: dict[str, int] = defaultdict(int)
        self.payments: dict[str, tuple[str, int]] = {}
        self.bookings: dict[tuple[str, str], Booking] = {}
        self.fee = self.market = self.burned = self.reserve = 0
        self.epoch = 0
        self.coupons: dict[tuple[int, int], int] = defaultdict(int)
        self.tests: dict[tuple[int, str], tuple[int, int]] = {}
        self.pay: dict[int, int] = defaultdict(int)

    def deposit(self, partner: str, reference: str, amount: int) -> None:
        if reference not in self.payments and amount > 0:
            self.payments[reference] = (partner, amount)
            self.wallets[partner] += amount

    def hold(self, partner: str, name: str, terms: Booking) -> None:
        known = self.bookings.setdefault((partner, name), terms)
        if known.escrow != "none":
            return
        known.nodes, known.hourly, known.asked = terms.nodes, terms.hourly, terms.asked
        if terms.asked > self.wallets[partner] or (
            known.ended and not any(end > start for start, end in known.ran.values())
        ):
            known.escrow = "declined"
            return
        known.escrow = "funded"
        known.left = known.asked
        self.wallets[partner] -= known.asked
        self.settle(partner, known)

    def settle(self, partner: str, booking: Booking) -> None:
        if booking.escrow != "funded":
            return
        for number, (start, end) in booking.ran.items():
            if number not in booking.charged:
                booking.charged.add(number)
                cost = price(booking.hourly, end - start)
                burned = cost * 95 // 100
                booking.left -= cost
                self.fee += cost - burned
                self.market += burned
                self.burned += burned * 10**8 // self.render
                self.coupons[self.epoch, number] += burned
        running = sum(1 for number in range(booking.nodes) if number not in booking.ran)
        for number, gap_ms in sorted(booking.gaps.items(), key=lambda gap: f"lse_{gap[0]}"):
            amount = price(booking.hourly, gap_ms)
            free = booking.left - running * (booking.asked // booking.nodes)
            if number not in booking.refunded_gaps and amount <= free and not booking.ended:
                booking.refunded_gaps.add(number)
                booking.left -= amount
                self.wallets[partner] += amount
        if booking.ended:
            self.wallets[partner] += booking.left
            booking.left = 0

    def close_epoch(self) -> None:
        coupons = {node: amount for (epoch, node), amount in self.coupons.items() if epoch == self.epoch and amount}
        compute = sum(coupons.values())
        pool = int(Fraction(self.emission * compute, compute + self.usd_render))
        weights: dict[int, list[int]] = defaultdict(list)
        for (node, _probe), (epoch, weight) in self.tests.items():
            if epoch == self.epoch:
                weights[node].append(weight)
        scores = {node: sum(tests) // len(tests) for node, tests in weights.items()}
        available = self.availability + self.reserve
        for paid in (share_out(pool, coupons), share_out(available, scores)):
            for node, amount in paid.items():
                self.pay[node] += amount
        self.reserve = 0 if any(scores.values()) else available
        self.epoch += 1
