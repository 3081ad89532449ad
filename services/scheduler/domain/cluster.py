"""How a booking becomes a running cluster: held as a gang, started on all nodes at once, ready when all are members."""

from services.scheduler.domain.booking import UP, Booking, Lease, LeaseState, Limits, Outcome, State
from services.scheduler.domain.placement import choose_head, grant
from services.scheduler.domain.pool import Candidate
from wire.booking import ClusterReady, NodesHeld, ReplacementReady
from wire.message import Message
from wire.node import StartRayNode, StopRayNode
from wire.quote import Quote


def hold(booking: Booking, quote: Quote, gang: list[Candidate], now: int, limits: Limits) -> Outcome:
    """placed → held, with a lease of every node of the gang."""
    held = booking.moved(State.held, now, hourly=quote.hourly)
    held = grant(held, gang, tuple(range(booking.request.nodes)), LeaseState.held, now)
    said = NodesHeld(
        partner=held.partner,
        booking_id=held.booking_id,
        leases=tuple(lease.terms for lease in held.live),
        escrow=quote.total,
        hold_expires_at=now + limits.hold_ms,
    )
    return Outcome(held, (said,))


def start(booking: Booking, now: int, token: str, limits: Limits) -> Outcome:
    """held → starting: the leases are final, and every node is told to start at the same moment."""
    head = choose_head(booking.live)
    started = booking.moved(State.starting, now, cluster_token=token, head_lease_id=head.lease_id)
    started = started.with_leases(lease.activated() for lease in started.live)
    return Outcome(started, tuple(start_command(started, lease, now, limits) for lease in started.live))


def start_command(booking: Booking, lease: Lease, now: int, limits: Limits) -> StartRayNode:
    head = booking.head
    assert head is not None, "nobody starts without a head"
    return StartRayNode(
        node_id=lease.node_id,
        lease=lease.terms,
        booking_id=booking.booking_id,
        generation=booking.generation,
        role="head" if lease.lease_id == head.lease_id else "worker",
        head_address=head.address,
        head_ports=head.ports,
        cluster_token=booking.cluster_token,
        cluster_nodes=booking.request.nodes,
        gpus=lease.gpus,
        # Before it is ready nobody knows when it expires: the latest it can be. The node ends it by itself then.
        lease_expires_at=booking.expires_at or now + limits.start_ms + booking.request.duration_seconds * 1000,
    )


def stop_command(lease: Lease) -> StopRayNode:
    return StopRayNode(node_id=lease.node_id, lease_id=lease.lease_id, fence=lease.fence)


def join(booking: Booking, lease: Lease, now: int) -> Outcome:
    """The Ray node of a live lease is a member of the present generation."""
    with_member = booking.with_leases([lease.changed(joined=True)])
    if with_member.state in UP:
        return _join_running(with_member, lease, now)
    return settle(with_member, now)


def settle(booking: Booking, now: int) -> Outcome:
    """starting or restarting → ready (or degraded), once all are members that have to be.

    A first start waits for the whole gang; a cluster that has run goes on with the members that are left.
    """
    members = bool(booking.live) and all(lease.joined for lease in booking.live)
    waits = booking.state is State.starting and bool(booking.missing)
    if booking.state not in (State.starting, State.restarting) or not members or waits or booking.expired(now):
        return Outcome(booking)
    assert booking.head is not None, "members have joined a head"
    state = State.degraded if booking.missing else State.ready
    expires_at = booking.expires_at or now + booking.request.duration_seconds * 1000
    up = booking.moved(state, now, expires_at=expires_at, ready_at=booking.ready_at or now, failures=0)
    up = up.with_leases(lease.changed(started_at=now) for lease in up.live)
    said: list[Message] = [_ready(up)]
    if booking.state is State.restarting:
        said += [_replacement_ready(up, lease, now) for lease in up.live]
    return Outcome(up, tuple(said))


def _join_running(booking: Booking, lease: Lease, now: int) -> Outcome:
    billed = booking.with_leases([lease.changed(joined=True, started_at=now)])
    if billed.state is State.degraded and billed.whole:
        billed = billed.moved(State.ready, now)
    return Outcome(billed, (_replacement_ready(billed, lease, now),))


def _ready(booking: Booking) -> ClusterReady:
    assert booking.head is not None
    return ClusterReady(
        partner=booking.partner,
        booking_id=booking.booking_id,
        head_node_id=booking.head.node_id,
        node_ids=tuple(lease.node_id for lease in booking.live),
        generation=booking.generation,
        expires_at=booking.expires_at,
    )


def _replacement_ready(booking: Booking, lease: Lease, now: int) -> ReplacementReady:
    return ReplacementReady(
        partner=booking.partner, booking_id=booking.booking_id, lease=lease.terms, gap_ms=gap_ms(booking, lease, now)
    )


def gap_ms(booking: Booking, lease: Lease, now: int) -> int:
    """How long the lease's place stood empty: since the newest billed lease of that place ended."""
    ends = [
        earlier.ended_at
        for earlier in booking.leases
        if earlier.place == lease.place and not earlier.live and earlier.started_at
    ]
    return max(0, now - max(ends)) if ends else 0
