"""What the scheduler does on each message: load, decide, record; ends with its tables."""

from collections.abc import Callable, Mapping

import msgspec

from libs.bus.service import Answer, Every, Handler
from services.scheduler import fleet, jobs
from services.scheduler.commit import commit
from services.scheduler.domain import cluster, ending, placement
from services.scheduler.domain import overdue as overdue_bookings
from services.scheduler.domain.booking import (
    CLUSTERED,
    Booking,
    Lease,
    Outcome,
    State,
    order_digest,
    order_refusal,
    placed,
)
from services.scheduler.domain.budget import over_budget
from services.scheduler.domain.jobs import told
from services.scheduler.domain.pool import Pool, shortage
from services.scheduler.domain.replacement import Chance, fill
from services.scheduler.refusals import refused
from services.scheduler.store import Rows
from wire.access import IdentityBanned
from wire.booking import (
    BookingList,
    BookingPlaced,
    BookingQuoted,
    BookingRefused,
    BookingSettled,
    BookingStatus,
    EscrowDeclined,
    EscrowFunded,
    GetBooking,
    LeaseEndReason,
    ListBookings,
    PlaceBooking,
    QuoteDeclined,
    ReleaseBooking,
)
from wire.job import CancelJob, JobFilesDelivered, JobFilesMissing, JobResultDelivered, SubmitJob
from wire.message import Message, Query, Reply
from wire.node import (
    FleetView,
    GetFleet,
    LeaseRejected,
    NodeJoined,
    NodeLeaving,
    RayNodeFailed,
    RayNodeStarted,
    RayNodeStopped,
)
from wire.quote import Refused
from wire.reputation import NodeScored
from wire.values import Reason, Refusal

AT_ONCE = 100
"""Bookings that one run of a periodic task looks after."""

JOBS_TOLD = 200
"""A booking's newest jobs, as many as one answer can carry."""


async def place_booking(order: PlaceBooking, rows: Rows) -> None:
    """A repeat changes nothing; another order under the same id leaves the booking as it is."""
    known = await rows.booking(order.partner, order.booking_id)
    if known is not None:
        if known.order_digest != order_digest(order):
            detail = f"The booking {order.booking_id} is another order: a new order needs a new id."
            rows.say(refused(order, order.partner, Reason.id_reused, detail))
        return
    refusal = order_refusal(order, rows.limits)
    if refusal is not None:
        rows.say(BookingRefused(partner=order.partner, booking_id=order.booking_id, refusal=refusal))
        return
    said = BookingPlaced(
        partner=order.partner,
        booking_id=order.booking_id,
        request=order.request,
        max_total=order.max_total,
        quote_id=order.quote_id,
    )
    await commit(rows, None, Outcome(placed(order, rows.now), (said,)))


async def hold_nodes(quoted: BookingQuoted, rows: Rows) -> None:
    """The price is known: if it fits the budget, hold the whole gang, or refuse."""
    booking = await rows.booking(quoted.partner, quoted.booking_id)
    if booking is None or booking.state is not State.placed:
        return
    refusal = over_budget(quoted.quote, booking.max_total)
    if refusal is None:
        gang = placement.place(booking.request, await rows.pool(booking.request.model))
        if gang is not None:
            await commit(rows, booking, cluster.hold(booking, quoted.quote, gang, rows.now, rows.limits))
            return
        refusal = shortage(booking.request, await rows.pool())
    await commit(rows, booking, ending.refuse(booking, refusal, rows.now))


async def refuse_unpriced(declined: QuoteDeclined, rows: Rows) -> None:
    booking = await rows.booking(declined.partner, declined.booking_id)
    if booking is not None and booking.state is State.placed:
        await commit(rows, booking, ending.refuse(booking, declined.refusal, rows.now))


async def start_cluster(funded: EscrowFunded, rows: Rows) -> None:
    """The escrow is there; where the booking is over by now, the ledger hears of that again and pays it back."""
    booking = await rows.booking(funded.partner, funded.booking_id)
    if booking is None:
        return
    if booking.state is State.held:
        chance = rows.chance()
        await commit(rows, booking, cluster.start(booking, chance.now, chance.token, chance.limits))
    elif booking.over:
        rows.say(ending.told_again(booking))


async def refuse_unfunded(declined: EscrowDeclined, rows: Rows) -> None:
    booking = await rows.booking(declined.partner, declined.booking_id)
    if booking is not None and booking.state is State.held:
        await commit(rows, booking, ending.refuse(booking, declined.refusal, rows.now))


async def join_cluster(started: RayNodeStarted, rows: Rows) -> None:
    """A member of the present generation; a Ray node of a lease that is over has to stop."""
    found = await _lease(rows, started.lease_id, started.node_id, started.fence)
    if found is None:
        return
    booking, lease = found
    if not lease.live:
        rows.say(cluster.stop_command(lease))
    elif booking.expired(rows.now):
        # Before its deadline was noticed: who joins now would be refunded a gap longer than what was left of it.
        await commit(rows, booking, ending.end(booking, "expired", rows.now))
    elif booking.state in CLUSTERED and started.generation == booking.generation and not lease.joined:
        await commit(rows, booking, cluster.join(booking, lease, rows.now))


async def drop_failed(failed: RayNodeFailed, rows: Rows) -> None:
    """Its Ray node did not start, or ended by itself: the node is out of this booking."""
    found = await _lease(rows, failed.lease_id, failed.node_id, failed.fence)
    if found is not None and failed.generation == found[0].generation:
        await _drop(rows, found[1])


async def drop_rejecting(rejected: LeaseRejected, rows: Rows) -> None:
    """The node does not do what the lease asks; one that is leaving is not to blame for it."""
    found = await _lease(rows, rejected.lease_id, rejected.node_id, rejected.fence)
    if found is not None:
        await _drop(rows, found[1])


async def drop_stopped(stopped: RayNodeStopped, rows: Rows) -> None:
    """What we told a node to stop is over in our rows before; a live lease was ended by the node itself."""
    found = await _lease(rows, stopped.lease_id, stopped.node_id, stopped.fence)
    if found is not None:
        await _drop(rows, found[1])


async def _drop(rows: Rows, lease: Lease) -> None:
    node = await rows.node(lease.node_id)
    leaving = node is not None and node.draining
    reason: LeaseEndReason = "node_left" if leaving else "node_lost" if lease.started_at else "start_failed"
    await fleet.lose_lease(rows, lease.lease_id, reason, rows.now, lease.fence, blamed=not leaving)


async def _lease(rows: Rows, lease_id: str, node_id: str, fence: int) -> tuple[Booking, Lease] | None:
    """The lease a node speaks of, if it is its own."""
    found = await rows.booking_of_lease(lease_id)
    return found if found is not None and (found[1].node_id, found[1].fence) == (node_id, fence) else None


async def release_booking(order: ReleaseBooking, rows: Rows) -> None:
    """In whatever state it is: what was not used is refunded."""
    booking = await rows.booking(order.partner, order.booking_id)
    if booking is None:
        detail = f"There is no booking {order.booking_id} of yours."
        rows.say(refused(order, order.partner, Reason.unknown_booking, detail))
    elif booking.over:
        detail = f"The booking {order.booking_id} is {booking.state}."
        rows.say(refused(order, order.partner, Reason.already_ended, detail))
    else:
        await commit(rows, booking, ending.end(booking, "released", rows.now))


async def settle_booking(settled: BookingSettled, rows: Rows) -> None:
    booking = await rows.booking(settled.partner, settled.booking_id)
    if booking is not None and booking.state is State.ended:
        await commit(rows, booking, Outcome(booking.moved(State.settled, rows.now)))


async def end_overdue(rows: Rows) -> None:
    """Bookings whose deadline has passed."""
    await _look_after(rows, await rows.due_bookings(AT_ONCE), overdue_bookings.overdue)


async def fill_places(rows: Rows) -> None:
    """Clusters that run with fewer nodes than were booked, the longest waiting first."""
    await _look_after(rows, await rows.wanting_bookings(AT_ONCE), fill)


async def _look_after(
    rows: Rows, keys: list[tuple[str, str]], decide: Callable[[Booking, Pool, Chance], Outcome]
) -> None:
    """Each booking in turn, with a snapshot of its pool that is taken anew when one of them has changed it."""
    pools: dict[str, Pool] = {}
    for partner, booking_id in keys:
        booking = await rows.booking(partner, booking_id)
        if booking is None:
            continue
        model = booking.request.model
        if model not in pools:
            pools[model] = await rows.pool(model)
        outcome = decide(booking, pools[model], rows.chance())
        if outcome.booking != booking:
            await commit(rows, booking, outcome)
            del pools[model]


async def get_booking(query: GetBooking, rows: Rows) -> Reply:
    booking = await rows.peek_booking(query.partner, query.booking_id)
    if booking is None:
        detail = f"There is no booking {query.booking_id} of yours."
        return Refused(refusal=Refusal(reason=Reason.unknown_booking, detail=detail))
    jobs_told = [told(job) for job in await rows.newest_jobs(booking, JOBS_TOLD)]
    return msgspec.structs.replace(status_of(booking), jobs=tuple(jobs_told))


async def list_bookings(query: ListBookings, rows: Rows) -> Reply:
    bookings = await rows.newest_bookings(query.partner, query.limit)
    return BookingList(bookings=tuple(status_of(booking) for booking in bookings))


async def get_fleet(query: GetFleet, rows: Rows) -> Reply:
    return FleetView(nodes=tuple(await rows.fleet(query.model, query.limit)))


def status_of(booking: Booking) -> BookingStatus:
    head = booking.head
    return BookingStatus(
        booking_id=booking.booking_id,
        state=booking.state,
        request=booking.request,
        max_total=booking.max_total,
        head_node_id=head.node_id if head else None,
        node_ids=tuple(lease.node_id for lease in booking.live),
        ready_at=booking.ready_at,
        expires_at=booking.expires_at,
        detail=booking.refusal.detail if booking.refusal else booking.end_reason or "",
        order_digest=booking.order_digest,
        refusal=booking.refusal,
    )


HANDLES: Mapping[type[Message], Handler] = {
    PlaceBooking: place_booking,
    ReleaseBooking: release_booking,
    BookingQuoted: hold_nodes,
    QuoteDeclined: refuse_unpriced,
    EscrowFunded: start_cluster,
    EscrowDeclined: refuse_unfunded,
    BookingSettled: settle_booking,
    RayNodeStarted: join_cluster,
    RayNodeFailed: drop_failed,
    RayNodeStopped: drop_stopped,
    LeaseRejected: drop_rejecting,
    SubmitJob: jobs.submit_job,
    CancelJob: jobs.cancel_job,
    JobFilesDelivered: jobs.deliver_files,
    JobFilesMissing: jobs.miss_files,
    JobResultDelivered: jobs.finish_job,
    NodeJoined: fleet.join_node,
    NodeLeaving: fleet.leave_node,
    NodeScored: fleet.score_node,
    IdentityBanned: fleet.ban_node,
}
ANSWERS: Mapping[type[Query], Answer] = {GetBooking: get_booking, ListBookings: list_bookings, GetFleet: get_fleet}
EVERY = (
    Every(seconds=1.0, task=end_overdue, name="end_overdue"),
    Every(seconds=0.5, task=fill_places, name="fill_places"),
)
