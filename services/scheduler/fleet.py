"""Nodes that come and go, each with what that means for the booking it serves, in one transaction."""

from collections.abc import Sequence

import msgspec

from services.scheduler.commit import commit
from services.scheduler.domain import node as nodes
from services.scheduler.domain.node import LostReason, NodeState
from services.scheduler.domain.replacement import Loss, lose
from services.scheduler.store import Rows
from wire.access import IdentityBanned
from wire.booking import LeaseEndReason
from wire.node import NodeJoined, NodeLeaving, StopRayNode
from wire.reputation import NodeScored


async def join_node(joined: NodeJoined, rows: Rows) -> None:
    """A process of the node is up; whatever an earlier one ran is lost."""
    known = await rows.node(joined.node_id)
    if known is not None and known.boot_id != joined.boot_id and joined.boot_id not in known.past_boots:
        await lose_node(rows, known.node_id, known.boot_id, "disconnected", rows.last_seen(known.node_id))
        known = await rows.node(joined.node_id)
    admitted = nodes.admit(known, joined, rows.now)
    if admitted is not None:
        node, word = admitted
        await rows.save_node(node)
        if word is not None:
            rows.say(word)


async def leave_node(leaving: NodeLeaving, rows: Rows) -> None:
    """The node takes no more leases; it is gone when its last one ends."""
    node = await rows.node(leaving.node_id)
    if node is None or node.boot_id != leaving.boot_id or node.state in (NodeState.withdrawn, NodeState.banned):
        return
    if node.state is NodeState.lost or await rows.live_lease_of(node.node_id) is None:
        gone, word = nodes.withdraw(node)
        await rows.save_node(gone)
        rows.say(word)
    else:
        await rows.save_node(msgspec.structs.replace(node, draining=True))


async def lose_node(rows: Rows, node_id: str, boot_id: str | None, reason: LostReason, last_seen_at: int) -> None:
    """That process of the node is gone; nothing where another one is up, or where this is known already.

    `last_seen_at` counts where the rows do not know of a later sign of life.
    """
    node = await rows.node(node_id)
    if node is None:
        return
    lease_id = await rows.live_lease_of(node_id)
    last_seen_at = min(max(last_seen_at, node.last_seen_at), rows.now)
    departed = nodes.depart(node, boot_id, reason, last_seen_at, (lease_id,) if lease_id else ())
    if departed is None:
        return
    gone, word = departed
    # Before the pool is looked at: it must not offer the node that was just lost.
    await rows.save_node(gone)
    rows.say(word)
    if lease_id is not None:
        why: LeaseEndReason = "banned" if reason == "banned" else "node_left" if node.draining else "node_lost"
        await lose_lease(rows, lease_id, why, last_seen_at)


async def lose_lease(
    rows: Rows, lease_id: str, reason: LeaseEndReason, at: int, fence: int | None = None, blamed: bool = False
) -> None:
    """A node is out of its booking, which goes on without it as it can; nothing where the lease is over."""
    found = await rows.booking_of_lease(lease_id)
    if found is None:
        return
    booking, lease = found
    if not lease.live or fence not in (None, lease.fence):
        return
    pool = await rows.pool(booking.request.model)
    loss = Loss(lease=lease, reason=reason, at=at, blamed=blamed)
    await commit(rows, booking, lose(booking, loss, pool, rows.chance()))


async def look_at_node(rows: Rows, node_id: str, boot_id: str, lease_ids: Sequence[str]) -> None:
    """A heartbeat came from a node that was thought lost, or that runs leases it may no longer have."""
    node = await rows.node(node_id)
    if node is None or node.boot_id != boot_id:
        return
    back = nodes.readmit(node, boot_id, rows.now)
    if back is not None:
        await rows.save_node(back[0])
        rows.say(back[1])
    for lease_id, fence in await rows.over_leases(lease_ids, node_id):
        rows.say(StopRayNode(node_id=node_id, lease_id=lease_id, fence=fence))


async def score_node(scored: NodeScored, rows: Rows) -> None:
    await rows.score(scored.node_id, scored.lower_millis, scored.at)


async def ban_node(banned: IdentityBanned, rows: Rows) -> None:
    """A node's key is shut out, in force at once; the key of a partner is no business of the fleet."""
    await lose_node(rows, banned.public_key, None, "banned", rows.now)
