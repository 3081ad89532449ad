"""Which nodes a booking gets: a pure function of a snapshot of the pool; only the store commits what it plans.

A plan is all or nothing. Nodes are ranked by the lower bound of their reputation, then the smallest that fits (a
booking takes whole nodes, and pays for what it asked), then the one leased longest ago, then by id: the same
snapshot makes the same plan.
"""

from collections.abc import Collection

import msgspec

from services.scheduler.domain.booking import Booking, Lease, LeaseState, lease_id
from services.scheduler.domain.pool import Candidate, Pool, fitting
from wire.values import ClusterRequest


def rank(node: Candidate) -> tuple[int, int, int, str]:
    return (-node.reputation_millis, node.units, node.last_leased_at, node.node_id)


def pick(request: ClusterRequest, pool: Pool, count: int, exclude: Collection[str] = ()) -> list[Candidate]:
    """The best nodes that fit, at most `count`."""
    allowed = [node for node in fitting(request, pool) if node.node_id not in exclude]
    return sorted(allowed, key=rank)[:count]


def place(request: ClusterRequest, pool: Pool) -> list[Candidate] | None:
    """The whole gang, best node first, or None."""
    gang = pick(request, pool, request.nodes)
    return gang if len(gang) == request.nodes else None


def grant(booking: Booking, nodes: list[Candidate], places: tuple[int, ...], state: LeaseState, now: int) -> Booking:
    """The booking with a lease of each node for each place, in order."""
    assert booking.hourly is not None, "leases are granted at a quoted price"
    leases = []
    for place, node in zip(places, nodes, strict=False):
        fence = node.fence + 1
        leases.append(
            Lease(
                lease_id=lease_id(booking.partner, booking.booking_id, node.node_id, fence),
                place=place,
                node_id=node.node_id,
                fence=fence,
                hourly=booking.hourly,
                address=node.address,
                ports=node.ports,
                gpus=min(node.gpus, booking.request.gpus_per_node),
                state=state,
                granted_at=now,
            )
        )
    return booking.with_leases(leases)


def renewed(booking: Booking, lease: Lease, now: int) -> Lease:
    """A new lease of the same node for the same place: what was billed before stays with the old one."""
    fence = lease.fence + 1
    return msgspec.structs.replace(
        lease,
        lease_id=lease_id(booking.partner, booking.booking_id, lease.node_id, fence),
        fence=fence,
        state=LeaseState.active,
        granted_at=now,
        started_at=0,
        ended_at=0,
        reason=None,
        joined=False,
    )


def choose_head(leases: tuple[Lease, ...]) -> Lease:
    """The node that has been in the booking longest; of those, the best ranked when it was placed."""
    return min(leases, key=lambda lease: (lease.granted_at, lease.place))
