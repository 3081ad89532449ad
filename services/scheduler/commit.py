"""The one way in which a decision about a booking becomes rows and messages, with all that follows from it."""

from services.scheduler.domain import jobs, node
from services.scheduler.domain.booking import Booking, Outcome
from services.scheduler.store import Rows


async def commit(rows: Rows, before: Booking | None, outcome: Outcome) -> None:
    """Record the booking, then its open jobs, then the nodes that only waited for their lease to end."""
    after = outcome.booking
    await rows.save_booking(after, before)
    rows.say(*outcome.say)
    if before is None:
        return
    if jobs.touches_jobs(before, after):
        followed = jobs.follow(before, after, await rows.open_jobs(after))
        await rows.save_jobs(followed.jobs)
        rows.say(*followed.say)
    freed = {lease.node_id for lease in before.live} - {lease.node_id for lease in after.live}
    if freed:
        await _withdraw(rows, freed)


async def _withdraw(rows: Rows, node_ids: set[str]) -> None:
    for drained in await rows.drained(node_ids):
        gone, word = node.withdraw(drained)
        await rows.save_node(gone)
        rows.say(word)
