"""Closing epochs, by command or by the clock, and publishing the head of the hash chain each minute."""

from services.ledger.domain import epoch as closing
from services.ledger.domain.epoch import Closing, Epoch
from services.ledger.domain.transfer import epoch_event
from services.ledger.epoch_rows import USES_MAX
from services.ledger.store import Rows
from wire.ledger import CloseEpoch, EpochClosed, EpochRefused, LedgerHeadPublished
from wire.message import derived_id
from wire.values import Money, Reason, Refusal, usd


async def close_epoch(_command: CloseEpoch, rows: Rows) -> None:
    await rows.alone()
    await _close(await rows.running_epoch(), rows)


async def close_when_due(rows: Rows) -> None:
    """Close the epoch when it has run for as long as it should; opens the first one where there is none."""
    await rows.alone()
    epoch = await rows.running_epoch()
    length_ms = rows.settings.epoch_seconds * 1000
    if length_ms and rows.now >= epoch.started_at + length_ms:
        await _close(epoch, rows)


async def publish_head(rows: Rows) -> None:
    """Says the newest link, unless it was said before."""
    await rows.alone()
    head = await rows.new_head()
    if head is not None:
        height, digest = head
        event = derived_id(f"network/ledger/{height}", LedgerHeadPublished.verb())
        rows.say(LedgerHeadPublished(id=event, height=height, head=digest))


async def _close(epoch: Epoch, rows: Rows) -> None:
    """Pay both pools out; an epoch nobody worked in is closed too, and carries its pools over."""
    if rows.now <= epoch.started_at:
        detail = f"Epoch {epoch.number} has not lasted a millisecond."
        rows.say(EpochRefused(epoch=epoch.number, refusal=Refusal(reason=Reason.epoch_open, detail=detail)))
        return
    coupons, scores = await rows.coupons(epoch.number), await rows.scores(epoch.number)
    closed = closing.close(epoch, coupons, scores, rows.settings.epoch_render_usd_micros)
    await rows.post(epoch.number, closed.transfers)
    burned = await rows.close_epoch(epoch, closed)
    rows.say(_closed(epoch, closed, burned, rows.now))


def _closed(epoch: Epoch, closed: Closing, burned: int, now: int) -> EpochClosed:
    return EpochClosed(
        id=epoch_event(epoch.number),
        epoch=epoch.number,
        started_at=epoch.started_at,
        ended_at=now,
        emission=Money(epoch.emission.job, "RENDER"),
        usd_compute=usd(closed.usd_compute),
        usd_render=usd(closed.usd_render),
        compute_pool=Money(closed.compute_pool, "RENDER"),
        availability_pool=Money(closed.availability_pool, "RENDER"),
        carried_over=Money(closed.carried_over, "RENDER"),
        burned=Money(burned, "RENDER"),
        rewards=closed.rewards[:USES_MAX],
        nodes=len(closed.rewards),
        all_coupons=Money(closed.usd_compute, "COUPON"),
        all_weights=str(sum(int(reward.weight) for reward in closed.rewards)),
        compute_carried_in=Money(epoch.carried_in.job, "RENDER"),
        availability_carried_in=Money(epoch.carried_in.availability, "RENDER"),
    )
