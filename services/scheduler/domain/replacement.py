"""What a booking does when it loses a node: another takes the place, the cluster restarts, or it runs on with fewer.

Every node that leaves a booking before the booking ends passes here, before the cluster is ready and after.
"""

from collections.abc import Sequence

import msgspec

from services.scheduler.domain import cluster, ending, placement
from services.scheduler.domain.booking import UP, Booking, Lease, LeaseState, Limits, Outcome, State
from services.scheduler.domain.pool import Pool, shortage
from wire.booking import ClusterDegraded, ClusterRestarting, LeaseEndReason, NodeReplaced
from wire.message import Message
from wire.values import Reason, Refusal


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """A live lease that ends at `at`. `blamed`: the node failed it though it lives, and is not tried again."""

    lease: Lease
    reason: LeaseEndReason
    at: int
    blamed: bool = False


class Chance(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision takes from outside: the time, a fresh cluster token, and the network's bounds."""

    now: int
    token: str
    limits: Limits


def lose(booking: Booking, loss: Loss, pool: Pool, chance: Chance) -> Outcome:
    """The booking without that node, and with another one where `pool` has one."""
    ended, said = ending.end_lease(booking, loss.lease, loss.reason, loss.at, loss.blamed)
    reduced = booking.with_leases([ended]).changed(failures=booking.failures + loss.blamed)
    lost = Outcome(reduced, tuple(said))
    if reduced.state is State.held:
        return lost.then(_keep_hold(reduced, ended, pool, chance))
    if (refusal := _gave_up(reduced, chance.limits)) is not None:
        return lost.then(ending.end(reduced, "cluster_failed", chance.now, refusal=refusal))
    if reduced.state is State.ready:
        reduced = reduced.moved(State.degraded, chance.now)
    return lost.then(fill(reduced, pool, chance, ended))


def fill(booking: Booking, pool: Pool, chance: Chance, lost: Lease | None = None) -> Outcome:
    """Nodes for as many of the missing places as `pool` has; under a new head where there is none."""
    taken = {lease.node_id for lease in booking.leases if lease.live or lease.blamed}
    missing = booking.missing
    nodes = placement.pick(booking.request, pool, len(missing), exclude=taken)
    if lost is None and not nodes:
        return Outcome(booking)
    filled = placement.grant(booking, nodes, missing, LeaseState.active, chance.now)
    fresh = filled.leases[len(booking.leases) :]
    said = [_replaced(booking, lease) for lease in fresh]
    if lost is not None and filled.missing:
        said.append(_degraded(filled, lost, pool))
    if filled.head is None:
        return Outcome(filled, tuple(said)).then(_restart(filled, fresh, lost, chance))
    said += [cluster.start_command(filled, lease, chance.now, chance.limits) for lease in fresh]
    return Outcome(filled, tuple(said)).then(cluster.settle(filled, chance.now))


def _keep_hold(booking: Booking, lost: Lease, pool: Pool, chance: Chance) -> Outcome:
    """A hold is whole or it is nothing."""
    taken = {lease.node_id for lease in booking.leases if lease.live or lease.blamed}
    nodes = placement.pick(booking.request, pool, 1, exclude=taken)
    if not nodes:
        return ending.refuse(booking, shortage(booking.request, pool), chance.now)
    kept = placement.grant(booking, nodes, (lost.place,), LeaseState.held, chance.now)
    return Outcome(kept, (_replaced(booking, kept.leases[-1]),))


def _restart(booking: Booking, fresh: Sequence[Lease], lost: Lease | None, chance: Chance) -> Outcome:
    """All that is left starts again under a new head; what ran before is billed until the head was lost."""
    now = chance.now
    if booking.state in UP:
        booking = booking.moved(State.restarting, now)
    if not booking.live:
        return Outcome(booking.changed(head_lease_id=None))
    at = lost.ended_at if lost is not None else now
    new_ids = {lease.lease_id for lease in fresh}
    chosen = placement.choose_head(booking.live)
    said: list[Message] = []
    leases: list[Lease] = []
    for lease in booking.live:
        if lease.lease_id not in new_ids:
            ended, words = ending.end_lease(booking, lease, "cluster_failed", at)
            leases += (ended, placement.renewed(booking, lease, now))
            said += words
    restarted = booking.with_leases(leases).changed(generation=booking.generation + 1, cluster_token=chance.token)
    head = next(lease for lease in restarted.live if lease.node_id == chosen.node_id)
    restarted = restarted.changed(head_lease_id=head.lease_id)
    gone = lost or _predecessor(restarted, head.place) or head
    said.append(
        ClusterRestarting(
            partner=restarted.partner,
            booking_id=restarted.booking_id,
            lost_node_id=gone.node_id,
            head_node_id=head.node_id,
            generation=restarted.generation,
        )
    )
    said += [cluster.start_command(restarted, lease, now, chance.limits) for lease in restarted.live]
    return Outcome(restarted, tuple(said))


def _gave_up(booking: Booking, limits: Limits) -> Refusal | None:
    if booking.state in (State.starting, State.restarting) and booking.failures > limits.failures_max:
        detail = f"{booking.failures} nodes failed to start."
        return Refusal(reason=Reason.cluster_failed, detail=detail)
    grants = 1 if booking.head is not None else booking.request.nodes
    if len(booking.leases) + grants > limits.leases_max:
        detail = f"The booking has had {len(booking.leases)} leases, and one booking can have {limits.leases_max}."
        return Refusal(reason=Reason.cluster_failed, detail=detail)
    return None


def _predecessor(booking: Booking, place: int) -> Lease | None:
    return next((lease for lease in reversed(booking.leases) if lease.place == place and not lease.live), None)


def _replaced(before: Booking, lease: Lease) -> Message:
    lost = _predecessor(before, lease.place)
    assert lost is not None, "a place is only filled again"
    return NodeReplaced(
        partner=before.partner,
        booking_id=before.booking_id,
        lost_node_id=lost.node_id,
        lost_lease_id=lost.lease_id,
        lease=lease.terms,
    )


def _degraded(booking: Booking, lost: Lease, pool: Pool) -> Message:
    request = msgspec.structs.replace(booking.request, nodes=len(booking.missing))
    return ClusterDegraded(
        partner=booking.partner,
        booking_id=booking.booking_id,
        lost_node_id=lost.node_id,
        refusal=shortage(request, pool),
    )
