"""A node's own life: in the pool while it is heard, out of it when it is lost, leaves, or is banned."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

import msgspec

from services.scheduler.domain.states import Table, move
from wire.message import Event
from wire.node import NodeAdmitted, NodeJoined, NodeLost, NodeWithdrawn
from wire.values import NodeSpec

LostReason = Literal["disconnected", "silent", "banned"]
BOOTS_KEPT = 16


class NodeState(StrEnum):
    live = "live"
    lost = "lost"
    withdrawn = "withdrawn"
    banned = "banned"


NODE_MOVES: Table[NodeState] = {
    NodeState.live: frozenset({NodeState.lost, NodeState.withdrawn, NodeState.banned}),
    NodeState.lost: frozenset({NodeState.live, NodeState.withdrawn, NodeState.banned}),
    NodeState.withdrawn: frozenset({NodeState.live, NodeState.banned}),
    NodeState.banned: frozenset(),
}

LOST_STATE: Mapping[LostReason, NodeState] = {
    "disconnected": NodeState.lost,
    "silent": NodeState.lost,
    "banned": NodeState.banned,
}


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node as one transaction sees it; `past_boots` are processes of it that are known to be gone."""

    node_id: str
    boot_id: str
    spec: NodeSpec
    state: NodeState
    draining: bool
    joined_at: int
    last_seen_at: int
    past_boots: tuple[str, ...] = ()


def admit(node: Node | None, joined: NodeJoined, now: int) -> tuple[Node, Event | None] | None:
    """The node, in the pool. None where the event says nothing new: a process long gone, or a banned node."""
    if node is None:
        fresh = Node(
            node_id=joined.node_id,
            boot_id=joined.boot_id,
            spec=joined.spec,
            state=NodeState.live,
            draining=False,
            joined_at=now,
            last_seen_at=now,
        )
        return fresh, _admitted(fresh)
    if node.state is NodeState.banned or joined.boot_id in node.past_boots:
        return None
    same_boot = joined.boot_id == node.boot_id
    if same_boot and node.state is NodeState.withdrawn:
        return None
    past = node.past_boots if same_boot else (*node.past_boots, node.boot_id)[-BOOTS_KEPT:]
    state = node.state if node.state is NodeState.live else move(NODE_MOVES, node.state, NodeState.live)
    # Whether a node drains is a matter of its process: a new one does not.
    changes = {"spec": joined.spec, "boot_id": joined.boot_id, "past_boots": past, "state": state}
    newer = msgspec.structs.replace(node, **changes, draining=node.draining and same_boot, last_seen_at=now)
    unchanged = same_boot and node.state is NodeState.live and node.spec == joined.spec
    return newer, None if unchanged else _admitted(newer)


def readmit(node: Node, boot_id: str, now: int) -> tuple[Node, Event] | None:
    """A node that was lost is heard again, the same process as before."""
    if node.state is not NodeState.lost or node.boot_id != boot_id or node.draining:
        return None
    back = msgspec.structs.replace(node, state=move(NODE_MOVES, node.state, NodeState.live), last_seen_at=now)
    return back, _admitted(back)


def withdraw(node: Node) -> tuple[Node, Event]:
    """A drained node has left."""
    gone = msgspec.structs.replace(node, state=move(NODE_MOVES, node.state, NodeState.withdrawn), draining=True)
    return gone, NodeWithdrawn(node_id=node.node_id)


def depart(
    node: Node, boot_id: str | None, reason: LostReason, last_seen_at: int, lease_ids: tuple[str, ...]
) -> tuple[Node, Event] | None:
    """The node is out of the pool: lost, or withdrawn where it had begun to drain. None where that process is gone."""
    if boot_id is not None and node.boot_id != boot_id:
        return None
    if node.state is NodeState.banned or (node.state is not NodeState.live and reason != "banned"):
        return None
    if node.draining and reason != "banned":
        return withdraw(msgspec.structs.replace(node, last_seen_at=last_seen_at))
    state = move(NODE_MOVES, node.state, LOST_STATE[reason])
    gone = msgspec.structs.replace(node, state=state, last_seen_at=last_seen_at)
    return gone, NodeLost(node_id=node.node_id, reason=reason, last_seen_at=last_seen_at, lease_ids=lease_ids)


def _admitted(node: Node) -> NodeAdmitted:
    return NodeAdmitted(node_id=node.node_id, spec=node.spec)
