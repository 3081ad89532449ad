"""Which commands a node still obeys: a fence only grows, so an order from the past is known as such."""

import msgspec

from wire.node import StartRayNode, StopRayNode
from wire.values import Reason


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The lease a node runs."""

    lease_id: str
    fence: int
    generation: int
    expires_at: int


class Start(msgspec.Struct, frozen=True):
    """Start a Ray node; `stop_first` names a lease that has to end before."""

    stop_first: str | None


class Ignore(msgspec.Struct, frozen=True):
    """The order is already carried out."""


class Reject(msgspec.Struct, frozen=True):
    reason: Reason
    detail: str


def start(
    order: StartRayNode, held: Held | None, highest_fence: int, now: int, draining: bool
) -> Start | Ignore | Reject:
    """What to do on a StartRayNode; `highest_fence` is the highest this node has ever seen."""
    if order.lease.fence < highest_fence:
        return Reject(Reason.not_allowed, f"Fence {order.lease.fence} is behind {highest_fence}.")
    if order.lease_expires_at <= now:
        return Reject(Reason.already_ended, "The lease is over by this node's clock.")
    if draining:
        return Reject(Reason.not_allowed, "The node is draining.")
    if held is None:
        return Start(None)
    if held.lease_id == order.lease.lease_id and held.generation >= order.generation:
        return Ignore()
    return Start(held.lease_id)


def stop(order: StopRayNode, held: Held | None) -> bool:
    """Whether a StopRayNode still concerns what runs here."""
    return held is not None and held.lease_id == order.lease_id and held.fence <= order.fence


def is_over(held: Held, now: int) -> bool:
    """The node's own clock ends a lease even when nobody tells it to."""
    return held.expires_at <= now
