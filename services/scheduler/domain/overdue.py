"""What becomes of a booking for which nobody sent the message it waits for."""

from services.scheduler.domain import ending
from services.scheduler.domain.booking import Booking, Outcome, State
from services.scheduler.domain.pool import Pool
from services.scheduler.domain.replacement import Chance, Loss, lose
from wire.values import Reason, Refusal


def overdue(booking: Booking, pool: Pool, chance: Chance) -> Outcome:
    """The booking after its deadline (`booking.deadline`); unchanged where none has passed."""
    now, limits = chance.now, chance.limits
    match booking.state:
        case State.placed if booking.since + limits.start_ms <= now:
            return ending.refuse(booking, _silence("No price was found", limits.start_ms), now)
        case State.held if booking.since + limits.hold_ms <= now:
            return ending.refuse(booking, _silence("The escrow was not funded", limits.hold_ms), now)
        case State.starting if booking.since + limits.start_ms <= now:
            return ending.end(booking, "cluster_failed", now, refusal=_not_started(booking, limits.start_ms))
        case State.ready | State.degraded | State.restarting:
            return _running(booking, pool, chance)
    return Outcome(booking)


def _running(booking: Booking, pool: Pool, chance: Chance) -> Outcome:
    now, start_ms = chance.now, chance.limits.start_ms
    if booking.expires_at <= now:
        return ending.end(booking, "expired", now, at=booking.expires_at)
    if not booking.live and booking.since + start_ms <= now:
        return ending.end(booking, "cluster_failed", now, refusal=_not_started(booking, start_ms))
    outcome = Outcome(booking)
    late = [lease.lease_id for lease in booking.live if not lease.joined and lease.granted_at + start_ms <= now]
    for lease_id in late:
        lease = outcome.booking.lease(lease_id)
        # A restart, which the loss before this one may have caused, has given every node a new lease and new time.
        if lease is not None and lease.live and not outcome.booking.over:
            loss = Loss(lease=lease, reason="start_failed", at=now, blamed=True)
            outcome = outcome.then(lose(outcome.booking, loss, pool, chance))
    return outcome


def _silence(what: str, waited_ms: int) -> Refusal:
    return Refusal(reason=Reason.no_answer, detail=f"{what} within {waited_ms // 1000} seconds.")


def _not_started(booking: Booking, waited_ms: int) -> Refusal:
    names = ", ".join(lease.node_id for lease in booking.live if not lease.joined) or "no node was left"
    detail = f"The cluster did not start within {waited_ms // 1000} seconds: {names}."
    return Refusal(reason=Reason.cluster_failed, detail=detail[:2000])
