"""The leases of this node: starts and ends the Ray node of each, and ends it by its own clock when nobody says so."""

import asyncio
import contextlib
import logging
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from libs.clock import now_ms
from services.node_agent import gpu
from services.node_agent.domain import lifecycle
from services.node_agent.domain.lifecycle import Held
from services.node_agent.ray_cluster import RayNode, RayNodeFailed, RayPlan
from wire import node
from wire.message import Event
from wire.node import LeaseRejected, RayNodeStarted, RayNodeStopped, StartRayNode, StopRayNode
from wire.values import NodeSpec

START_SECONDS = 90.0
_GUARD_SECONDS = 1.0
_OBJECT_STORE_SHARE = 0.3
_OBJECT_STORE_MB_MIN = 80
_DETAIL_MAX = 1900

StopReason = Literal["commanded", "lease_over", "superseded"]

log = logging.getLogger("agent")


class Lease:
    """One lease with its Ray node, which is None until it was started."""

    def __init__(self, order: StartRayNode, directory: Path) -> None:
        self.order = order
        self.directory = directory
        self.held = Held(
            lease_id=order.lease.lease_id,
            fence=order.lease.fence,
            generation=order.generation,
            expires_at=order.lease_expires_at,
        )
        self.ray: RayNode | None = None
        self.life: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()


class Leases:
    """At most one lease runs at a time; its files lie in a short directory of their own and go with it."""

    def __init__(
        self, node_id: str, spec: NodeSpec, cards: list[gpu.Gpu], directory: Path, say: Callable[[Event], None]
    ) -> None:
        self._node_id, self._spec, self._cards, self._say = node_id, spec, cards, say
        self._directory = directory / "leases"
        self._highest_fence = 0
        self._current: Lease | None = None
        self._turn = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        # What a crash left; its processes died with the agent.
        shutil.rmtree(self._directory, ignore_errors=True)

    def live(self) -> tuple[str, ...]:
        """The leases that run here, for the heartbeat."""
        return (self._current.held.lease_id,) if self._current else ()

    def of(self, lease_id: str) -> Lease | None:
        """The lease of that id, if it runs here."""
        return self._current if self._current and self._current.held.lease_id == lease_id else None

    async def idle(self) -> None:
        """Until no lease runs."""
        await self._idle.wait()

    async def start(self, order: StartRayNode) -> None:
        """Begin the lease; how it went is told by an event."""
        async with self._turn:
            held = self._current.held if self._current else None
            decided = lifecycle.start(order, held, self._highest_fence, now_ms(), self.draining)
            if isinstance(decided, lifecycle.Reject):
                self._say(
                    LeaseRejected(
                        node_id=self._node_id,
                        lease_id=order.lease.lease_id,
                        fence=order.lease.fence,
                        reason=decided.reason,
                        detail=decided.detail,
                    )
                )
            if not isinstance(decided, lifecycle.Start):
                return
            if self._current is not None:
                await self._end(self._current, "superseded")
            self._highest_fence = order.lease.fence
            # Short, because Ray keeps sockets in it, and their paths end at 107 bytes.
            lease = Lease(order, self._directory / secrets.token_hex(3))
            self._current = lease
            self._idle.clear()
            lease.life = asyncio.create_task(self._live(lease))

    async def stop(self, order: StopRayNode) -> None:
        async with self._turn:
            held = self._current.held if self._current else None
            if self._current is not None and lifecycle.stop(order, held):
                await self._end(self._current, "commanded")

    async def guard(self) -> None:
        """End what is over by this node's clock: nothing runs on after its lease, whatever the network forgets."""
        while True:
            await asyncio.sleep(_GUARD_SECONDS)
            async with self._turn:
                if self._current is not None and lifecycle.is_over(self._current.held, now_ms()):
                    await self._end(self._current, "lease_over")

    async def end_all(self) -> None:
        async with self._turn:
            if self._current is not None:
                await self._end(self._current, "commanded")

    async def _live(self, lease: Lease) -> None:
        """Start the Ray node, say so, and say so too when it ends by itself."""
        order = lease.order
        try:
            lease.ray = await RayNode.start(self._plan(lease))
            milliseconds = await lease.ray.wait_ready(seconds=START_SECONDS)
        except (RayNodeFailed, OSError) as error:
            await self._failed(lease, str(error))
            return
        lease.ready.set()
        self._say(
            RayNodeStarted(
                node_id=self._node_id,
                lease_id=lease.held.lease_id,
                fence=lease.held.fence,
                role=order.role,
                generation=order.generation,
                start_ms=milliseconds,
            )
        )
        why = await asyncio.shield(lease.ray.exited)
        await self._failed(lease, why)

    async def _failed(self, lease: Lease, why: str) -> None:
        log.warning("lease %s: %s", lease.held.lease_id, why)
        self._say(
            node.RayNodeFailed(
                node_id=self._node_id,
                lease_id=lease.held.lease_id,
                fence=lease.held.fence,
                generation=lease.held.generation,
                detail=why.replace("\0", "")[-_DETAIL_MAX:],
            )
        )
        await self._clear(lease)

    async def _end(self, lease: Lease, reason: StopReason) -> None:
        """End every process of the lease and say so; whoever calls this holds the turn."""
        if lease.life is not None and lease.life is not asyncio.current_task():
            lease.life.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await lease.life
        await self._clear(lease)
        self._say(
            RayNodeStopped(
                node_id=self._node_id,
                lease_id=lease.held.lease_id,
                fence=lease.held.fence,
                reason=reason,
            )
        )

    async def _clear(self, lease: Lease) -> None:
        if lease.ray is not None:
            await lease.ray.stop()
        await asyncio.to_thread(shutil.rmtree, lease.directory, True)
        if self._current is lease:
            self._current = None
            self._idle.set()

    def _plan(self, lease: Lease) -> RayPlan:
        order, spec = lease.order, self._spec
        memory = spec.memory_mb << 20
        head = order.role == "head"
        return RayPlan(
            directory=lease.directory,
            token=order.cluster_token,
            ports=spec.ray_ports,
            address=spec.address,
            cpus=spec.cpu_cores,
            memory_bytes=memory,
            object_store_bytes=max(_OBJECT_STORE_MB_MIN << 20, int(memory * _OBJECT_STORE_SHARE)),
            gpus=tuple(self._cards[: order.gpus]),
            head_address=None if head else order.head_address,
            head_ports=None if head else order.head_ports,
            name=spec.name,
        )
