"""How a booking ends: every live lease ends with it, every told node is stopped, and nothing is billed twice."""

from services.scheduler.domain.booking import Booking, Lease, LeaseState, Outcome, State
from services.scheduler.domain.cluster import stop_command
from wire.booking import BookingEnded, BookingRefused, EndReason, LeaseEnded, LeaseEndReason
from wire.message import Message
from wire.values import Refusal

_LEASE_REASON: dict[EndReason, LeaseEndReason] = {
    "released": "released",
    "expired": "expired",
    "refused": "released",
    "cluster_failed": "cluster_failed",
}


def end_lease(
    booking: Booking, lease: Lease, reason: LeaseEndReason, at: int, blamed: bool = False
) -> tuple[Lease, list[Message]]:
    """The lease, ended, and what is said of it; a node that was told to start is told to stop.

    Nothing is billed beyond the time that was booked, however late we notice that it is over.
    """
    ended = lease.over(reason, min(at, booking.expires_at or at), blamed)
    said: list[Message] = [
        LeaseEnded(
            partner=booking.partner,
            booking_id=booking.booking_id,
            lease=ended.terms,
            started_at=ended.started_at,
            ended_at=ended.ended_at,
            reason=reason,
        )
    ]
    if lease.state is LeaseState.active:
        said.append(stop_command(lease))
    return ended, said


def refuse(booking: Booking, refusal: Refusal, now: int) -> Outcome:
    """placed or held → refused: nothing was charged, and what was held is free again."""
    released = _end_all(booking, "released", now)
    refused = released.booking.moved(State.refused, now, refusal=refusal, ended_at=now)
    said = BookingRefused(partner=refused.partner, booking_id=refused.booking_id, refusal=refusal)
    return Outcome(refused, (*released.say, said))


def end(
    booking: Booking, reason: EndReason, now: int, at: int | None = None, refusal: Refusal | None = None
) -> Outcome:
    """Any state that is not over → ended; leases end at `at`, which is now unless told otherwise."""
    over = _end_all(booking, _LEASE_REASON[reason], now if at is None else at)
    ended = over.booking.moved(State.ended, now, end_reason=reason, refusal=refusal, ended_at=now, head_lease_id=None)
    return Outcome(ended, (*over.say, told_again(ended)))


def told_again(booking: Booking) -> BookingEnded:
    """The end of a booking that is over: said once more to a ledger whose escrow came after it."""
    return BookingEnded(
        partner=booking.partner,
        booking_id=booking.booking_id,
        reason=booking.end_reason or "refused",
        spans=tuple(lease.span for lease in booking.leases),
        refusal=booking.refusal,
    )


def _end_all(booking: Booking, reason: LeaseEndReason, at: int) -> Outcome:
    said: list[Message] = []
    leases = []
    for lease in booking.live:
        ended, words = end_lease(booking, lease, reason, at)
        leases.append(ended)
        said += words
    return Outcome(booking.with_leases(leases), tuple(said))
