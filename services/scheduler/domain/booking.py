"""A booking with its leases, and the moves both may make; nothing here knows how a node is chosen."""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Self

import msgspec

from services.scheduler.domain.states import Table, move
from wire.booking import EndReason, LeaseEndReason, LeaseSpan, PlaceBooking
from wire.message import Message
from wire.values import ClusterRequest, LeaseTerms, Money, PortBlock, Reason, Refusal


class State(StrEnum):
    """`degraded`: the cluster runs, but not every place has a member. `restarting`: it has no head that runs."""

    placed = "placed"
    held = "held"
    starting = "starting"
    ready = "ready"
    degraded = "degraded"
    restarting = "restarting"
    refused = "refused"
    ended = "ended"
    settled = "settled"


MOVES: Table[State] = {
    State.placed: frozenset({State.held, State.refused, State.ended}),
    State.held: frozenset({State.starting, State.refused, State.ended}),
    State.starting: frozenset({State.ready, State.ended}),
    State.ready: frozenset({State.degraded, State.restarting, State.ended}),
    State.degraded: frozenset({State.ready, State.restarting, State.ended}),
    State.restarting: frozenset({State.ready, State.degraded, State.ended}),
    State.refused: frozenset(),
    State.ended: frozenset({State.settled}),
    State.settled: frozenset(),
}
UP = frozenset({State.ready, State.degraded})
CLUSTERED = UP | {State.starting, State.restarting}
OVER = frozenset({State.refused, State.ended, State.settled})


class LeaseState(StrEnum):
    """`held`: kept for a booking that is not funded yet. `active`: the node was told to start."""

    held = "held"
    active = "active"
    ended = "ended"


LEASE_MOVES: Table[LeaseState] = {
    LeaseState.held: frozenset({LeaseState.active, LeaseState.ended}),
    LeaseState.active: frozenset({LeaseState.ended}),
    LeaseState.ended: frozenset(),
}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The network's own bounds; what a message can carry is why a booking has at most so many nodes and leases."""

    hold_ms: int = 60_000
    start_ms: int = 120_000
    failures_max: int = 5
    nodes_max: int = 256
    leases_max: int = 1000


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """One node for one place of a booking; `started_at` is 0 until it is billed, `fence` is the node's newest.

    `joined`: its Ray node is a member of the booking's present generation. `blamed`: the node itself failed it and
    is not tried again for this booking.
    """

    lease_id: str
    place: int
    node_id: str
    fence: int
    hourly: Money
    address: str
    ports: PortBlock
    gpus: int
    state: LeaseState
    granted_at: int
    started_at: int = 0
    ended_at: int = 0
    reason: LeaseEndReason | None = None
    joined: bool = False
    blamed: bool = False

    @property
    def live(self) -> bool:
        return self.state is not LeaseState.ended

    @property
    def terms(self) -> LeaseTerms:
        return LeaseTerms(lease_id=self.lease_id, node_id=self.node_id, fence=self.fence, hourly=self.hourly)

    @property
    def span(self) -> LeaseSpan:
        return LeaseSpan(lease=self.terms, started_at=self.started_at, ended_at=self.ended_at)

    def activated(self) -> Self:
        return self.changed(state=move(LEASE_MOVES, self.state, LeaseState.active))

    def changed(self, **changes: Any) -> Self:
        return msgspec.structs.replace(self, **changes)

    def over(self, reason: LeaseEndReason, at: int, blamed: bool = False) -> Self:
        """Ended at `at`, or when it started, whichever is later: no lease runs for less than nothing."""
        state = move(LEASE_MOVES, self.state, LeaseState.ended)
        return self.changed(state=state, reason=reason, ended_at=max(at, self.started_at), blamed=blamed)


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """A booking as one transaction sees it. `since` is when it entered its state or its generation."""

    partner: str
    booking_id: str
    state: State
    order_digest: str
    request: ClusterRequest
    max_total: Money
    placed_at: int
    since: int
    quote_id: str | None = None
    hourly: Money | None = None
    generation: int = 1
    cluster_token: str = ""
    head_lease_id: str | None = None
    ready_at: int = 0
    expires_at: int = 0
    ended_at: int = 0
    end_reason: EndReason | None = None
    refusal: Refusal | None = None
    failures: int = 0
    leases: tuple[Lease, ...] = ()

    @property
    def live(self) -> tuple[Lease, ...]:
        return tuple(lease for lease in self.leases if lease.live)

    @property
    def head(self) -> Lease | None:
        return next((lease for lease in self.live if lease.lease_id == self.head_lease_id), None)

    @property
    def missing(self) -> tuple[int, ...]:
        """Places of a cluster that no node fills."""
        if self.state not in CLUSTERED:
            return ()
        taken = {lease.place for lease in self.live}
        return tuple(place for place in range(self.request.nodes) if place not in taken)

    @property
    def whole(self) -> bool:
        return not self.missing and all(lease.joined for lease in self.live)

    @property
    def over(self) -> bool:
        return self.state in OVER

    def expired(self, now: int) -> bool:
        return bool(self.expires_at) and self.expires_at <= now and not self.over

    def lease(self, lease_id: str) -> Lease | None:
        return next((lease for lease in self.leases if lease.lease_id == lease_id), None)

    def moved(self, state: State, now: int, **changes: Any) -> Self:
        return msgspec.structs.replace(self, state=move(MOVES, self.state, state), since=now, **changes)

    def changed(self, **changes: Any) -> Self:
        return msgspec.structs.replace(self, **changes)

    def with_leases(self, leases: Iterable[Lease]) -> Self:
        """These leases in place of those of the same id; new ones at the end."""
        newer = {lease.lease_id: lease for lease in leases}
        kept = [newer.pop(lease.lease_id, lease) for lease in self.leases]
        return msgspec.structs.replace(self, leases=(*kept, *newer.values()))


class Outcome(msgspec.Struct, frozen=True):
    """What a decision made of a booking, and what is to be said about it, in this order."""

    booking: Booking
    say: tuple[Message, ...] = ()

    def then(self, later: "Outcome") -> "Outcome":
        return Outcome(later.booking, (*self.say, *later.say))


def order_digest(order: PlaceBooking) -> str:
    """SHA-256 of the order as JSON with sorted keys and no spaces, `id`, `at` and `type` left out."""
    content = msgspec.to_builtins(order)
    for transport in ("id", "at", "type"):
        content.pop(transport, None)
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def lease_id(partner: str, booking_id: str, node_id: str, fence: int) -> str:
    """The same for the same lease at every rerun, and for no other: a fence is used once per node."""
    digest = hashlib.sha256(f"{partner}/{booking_id}/{node_id}/{fence}".encode()).hexdigest()
    return f"lse_{digest[:24]}"


def placed(order: PlaceBooking, now: int) -> Booking:
    return Booking(
        partner=order.partner,
        booking_id=order.booking_id,
        state=State.placed,
        order_digest=order_digest(order),
        request=order.request,
        max_total=order.max_total,
        placed_at=now,
        since=now,
        quote_id=order.quote_id,
    )


def order_refusal(order: PlaceBooking, limits: Limits) -> Refusal | None:
    """Why an order that is well formed still makes no sense."""
    if order.max_total.asset != "USD" or order.max_total.amount <= 0:
        detail = "max_total must be more than 0 micro-USD: bookings are priced and escrowed in USD."
        return Refusal(reason=Reason.out_of_range, detail=detail)
    if order.request.nodes > limits.nodes_max:
        detail = f"{order.request.nodes} nodes in one booking are too many."
        nearest = f"{limits.nodes_max} nodes, and further bookings for the rest."
        return Refusal(reason=Reason.out_of_range, detail=detail, nearest=nearest)
    return None


def deadline(booking: Booking, limits: Limits) -> int | None:
    """When something has to happen even if no message comes; None for a booking that is over."""
    match booking.state:
        case State.held:
            return booking.since + limits.hold_ms
        case State.placed | State.starting:
            return booking.since + limits.start_ms
        case State.ready | State.degraded | State.restarting:
            starts = [lease.granted_at + limits.start_ms for lease in booking.live if not lease.joined]
            stranded = [] if booking.live else [booking.since + limits.start_ms]
            return min([booking.expires_at, *starts, *stranded])
    return None
