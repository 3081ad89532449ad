"""Laws of a booking in any history: whatever fails in whatever order, places, commands and billed time add up."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.domain import cluster, ending, placement, replacement
from services.scheduler.domain.booking import MOVES, UP, Booking, Lease, Limits, Outcome, State, deadline, placed
from services.scheduler.domain.overdue import overdue
from services.scheduler.domain.pool import Candidate
from services.scheduler.domain.replacement import Chance, Loss
from tests.scheduler import builders
from wire.booking import BookingEnded, LeaseEnded, LeaseEndReason, ReplacementReady
from wire.message import Message
from wire.node import StartRayNode, StopRayNode

LIMITS = Limits(start_ms=20_000, hold_ms=10_000, failures_max=3)
SEATS, FLEET, DURATION_MS = 3, 5, 120_000


class History:
    """One booking and the fleet around it, and everything said of it."""

    def __init__(self) -> None:
        self.now = builders.T0
        self.fences: Counter[str] = Counter()
        self.away: set[str] = set()
        self.said: list[Message] = []
        self.tokens = 0
        order = builders.order(nodes=SEATS, duration_seconds=DURATION_MS // 1000)
        self.booking = placed(order, self.now)
        gang = placement.place(order.request, self.pool())
        assert gang is not None
        self.take(cluster.hold(self.booking, builders.quote(order.request), gang, self.now, LIMITS))

    def pool(self) -> list[Candidate]:
        busy = {lease.node_id for lease in self.booking.live}
        return [
            builders.candidate(number, fence=self.fences[node_id], free=node_id not in busy)
            for number in range(FLEET)
            if (node_id := builders.node_id(number)) not in self.away
        ]

    def chance(self) -> Chance:
        self.tokens += 1
        return Chance(now=self.now, token=f"{self.tokens:064x}", limits=LIMITS)

    def take(self, outcome: Outcome) -> None:
        before, self.booking = self.booking, outcome.booking
        self.said += outcome.say
        for lease in self.booking.leases[len(before.leases) :]:
            self.fences[lease.node_id] += 1
            assert lease.fence == self.fences[lease.node_id]
        check(before, self.booking)

    def act(self, step: str, which: int, ms: int) -> None:
        self.now += ms
        live = self.booking.live
        lease = live[which % len(live)] if live else None
        match step:
            case "fund" if self.booking.state is State.held:
                self.take(cluster.start(self.booking, self.now, self.chance().token, LIMITS))
            case "start one":
                self.start(lease)
            case "start all":
                for one in live:
                    self.start(self.booking.lease(one.lease_id))
            case "lose" if lease and not self.booking.over:
                self.away.add(lease.node_id)
                self.lose(lease, self.now - which * 100, "node_lost", False)
            case "fail" if lease and not self.booking.over:
                self.lose(lease, self.now, "start_failed", True)
            case "return" if self.away:
                self.away.discard(sorted(self.away)[which % len(self.away)])
            case "fill" if self.booking.missing:
                self.take(replacement.fill(self.booking, self.pool(), self.chance()))
            case "overdue" if not self.booking.over:
                self.take(overdue(self.booking, self.pool(), self.chance()))

    def start(self, lease: Lease | None) -> None:
        """As the handler does when a node says that it has started."""
        if lease and self.booking.expired(self.now):
            self.take(ending.end(self.booking, "expired", self.now))
        elif lease and lease.live and self.booking.state is not State.held and not lease.joined:
            self.take(cluster.join(self.booking, lease, self.now))

    def lose(self, lease: Lease, at: int, reason: LeaseEndReason, blamed: bool) -> None:
        loss = Loss(lease=lease, reason=reason, at=at, blamed=blamed)
        self.take(replacement.lose(self.booking, loss, self.pool(), self.chance()))


def check(before: Booking, after: Booking) -> None:
    """What holds at every moment."""
    assert after.state is before.state or reachable(before.state, after.state)
    live = after.live
    assert len({lease.node_id for lease in live}) == len(live), "a node twice"
    assert len({lease.place for lease in live}) == len(live), "a place twice"
    assert all(0 <= lease.place < SEATS for lease in live)
    assert after.leases[: len(before.leases)] != () or not before.leases
    assert [lease.lease_id for lease in after.leases[: len(before.leases)]] == [x.lease_id for x in before.leases]
    assert all(old.live or old == new for old, new in zip(before.leases, after.leases, strict=False)), "it ended before"
    assert after.over == (deadline(after, LIMITS) is None)
    if after.state in (State.held, State.ready):
        assert len(live) == SEATS
    if after.state in UP:
        assert after.head is not None
        assert after.head.joined
        assert all(bool(lease.started_at) == lease.joined for lease in live)
    if after.over:
        assert not live


def reachable(here: State, there: State) -> bool:
    """One decision may make several moves."""
    seen, edge = {here}, {here}
    while edge:
        edge = {then for state in edge for then in MOVES[state]} - seen
        seen |= edge
    return there in seen


def billed(spans: Iterable[Lease]) -> dict[int, list[tuple[int, int]]]:
    times: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for lease in spans:
        if lease.started_at:
            times[lease.place].append((lease.started_at, lease.ended_at))
    return {place: sorted(pairs) for place, pairs in times.items()}


steps = st.lists(
    st.tuples(
        st.sampled_from(["start one", "start all", "start all", "lose", "lose", "fail", "return", "fill", "overdue"]),
        st.integers(0, 5),
        st.sampled_from([0, 1, 500, 3_000, 9_000, 21_000]),
    ),
    max_size=40,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["held", "starting", "ready"]), steps)
def test_a_booking_adds_up_in_any_history(begin: str, history: list[tuple[str, int, int]]) -> None:
    world = History()
    if begin != "held":
        world.act("fund", 0, 0)
    if begin == "ready":
        world.act("start all", 0, 1_000)
        assert world.booking.state is State.ready
    for step, which, ms in history:
        world.act(step, which, ms)
    if not world.booking.over:
        world.take(ending.end(world.booking, "released", world.now))
    booking, said = world.booking, world.said

    ended = [message for message in said if isinstance(message, LeaseEnded)]
    assert Counter(message.lease.lease_id for message in ended) == {lease.lease_id: 1 for lease in booking.leases}
    started = {message.lease.lease_id for message in said if isinstance(message, StartRayNode)}
    stopped = Counter(message.lease_id for message in said if isinstance(message, StopRayNode))
    assert stopped == dict.fromkeys(started, 1), "whoever was told to start is told to stop, once"
    for message in said:
        if isinstance(message, BookingEnded):
            assert [(span.started_at, span.ended_at) for span in message.spans] == [
                (lease.started_at, lease.ended_at) for lease in booking.leases
            ]

    for nth, lease in enumerate(booking.leases):
        later = {other.node_id for other in booking.leases[nth + 1 :]}
        assert not lease.blamed or lease.node_id not in later, "a node that failed is not tried again"
    gaps: Counter[int] = Counter()
    place_of = {lease.lease_id: lease.place for lease in booking.leases}
    for message in said:
        if isinstance(message, ReplacementReady):
            gaps[place_of[message.lease.lease_id]] += message.gap_ms
    for place, pairs in billed(booking.leases).items():
        assert all(start <= end for start, end in pairs)
        assert all(end <= start for (_, end), (start, _) in pairwise(pairs)), "billed twice"
        # Billed and refunded time together fill the place from ready to its last end: never more than was paid for.
        assert sum(end - start for start, end in pairs) + gaps[place] == pairs[-1][1] - pairs[0][0]
        assert pairs[0][0] == booking.ready_at
        assert pairs[-1][1] <= booking.expires_at
