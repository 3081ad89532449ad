"""The scheduler's rows in one transaction: nodes here, bookings, leases and jobs in booking_rows; the only SQL."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import msgspec

from libs.ids import new_token
from services.scheduler.booking_rows import BookingRows
from services.scheduler.domain.booking import Limits
from services.scheduler.domain.liveness import Known
from services.scheduler.domain.node import Node, NodeState
from services.scheduler.domain.pool import TIERS, Candidate
from services.scheduler.domain.replacement import Chance
from wire.node import FleetNode
from wire.values import NodeSpec, PortBlock

if TYPE_CHECKING:
    import asyncpg

_UPSERT_NODE = """
    INSERT INTO nodes (node_id, boot_id, past_boots, state, draining, spec, model, gpus, tier, country, address,
        ports_first, ports_count, joined_at, last_seen_at, changed_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
    ON CONFLICT (node_id) DO UPDATE SET
        boot_id = $2, past_boots = $3, state = $4, draining = $5, spec = $6, model = $7, gpus = $8, tier = $9,
        country = $10, address = $11, ports_first = $12, ports_count = $13, last_seen_at = $15, changed_at = $16
"""
_POOL = """
    SELECT node_id, model, gpus, tier, country, reputation_millis, last_leased_at, fence, address, ports_first,
        ports_count,
        NOT EXISTS (SELECT FROM leases WHERE leases.node_id = nodes.node_id AND leases.state <> 'ended') AS free
    FROM nodes WHERE state = 'live' AND NOT draining AND ($1::text IS NULL OR model = $1) ORDER BY node_id
"""
_CHANGED = """
    SELECT node_id, boot_id, state,
        ARRAY(SELECT lease_id FROM leases WHERE leases.node_id = nodes.node_id AND leases.state <> 'ended') AS lease_ids
    FROM nodes WHERE changed_at >= $1
"""
_FLEET = """
    SELECT nodes.*, EXISTS (SELECT FROM leases WHERE leases.node_id = nodes.node_id AND state <> 'ended') AS leased
    FROM nodes WHERE ($1::text IS NULL OR model = $1) ORDER BY (state = 'live') DESC, node_id LIMIT $2
"""


class Rows(BookingRows):
    """The rows of one transaction. `last_seen` is when this process heard a node last: no row can keep up with that."""

    def __init__(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        now: int,
        cause_id: str,
        limits: Limits | None = None,
        last_seen: Callable[[str], int] = lambda node_id: 0,
    ) -> None:
        super().__init__(connection, now, cause_id)
        self.limits = limits or Limits()
        self.last_seen = last_seen

    def chance(self) -> Chance:
        """What a decision may not take for itself."""
        return Chance(now=self.now, token=new_token(), limits=self.limits)

    async def pool(self, model: str | None = None) -> list[Candidate]:
        """A snapshot of the nodes that could be leased, or of those of one model."""
        return [_candidate(row) for row in await self.connection.fetch(_POOL, model)]

    async def node(self, node_id: str) -> Node | None:
        """To decide upon."""
        await self._alone()
        row = await self.connection.fetchrow("SELECT * FROM nodes WHERE node_id = $1", node_id)
        return _node(row) if row else None

    async def save_node(self, node: Node) -> None:
        spec = node.spec
        await self.connection.execute(
            _UPSERT_NODE,
            node.node_id,
            node.boot_id,
            list(node.past_boots),
            node.state,
            node.draining,
            msgspec.json.encode(spec).decode(),
            spec.model,
            spec.gpus,
            TIERS[spec.bandwidth_tier],
            spec.location.country,
            spec.address,
            spec.ray_ports.first,
            spec.ray_ports.count,
            node.joined_at,
            node.last_seen_at,
            self.now,
        )

    async def drained(self, node_ids: Collection[str]) -> list[Node]:
        """Those of these nodes that wanted to leave and have no lease left."""
        rows = await self.connection.fetch(
            """
            SELECT * FROM nodes WHERE node_id = ANY($1) AND state = 'live' AND draining
                AND NOT EXISTS (SELECT FROM leases WHERE leases.node_id = nodes.node_id AND leases.state <> 'ended')
            """,
            list(node_ids),
        )
        return [_node(row) for row in rows]

    async def score(self, node_id: str, lower_millis: int, at: int) -> None:
        """The newest score counts, in whatever order they come."""
        await self._alone()
        await self.connection.execute(
            "UPDATE nodes SET reputation_millis = $2, scored_at = $3 WHERE node_id = $1 AND scored_at <= $3",
            node_id,
            lower_millis,
            at,
        )

    async def saw(self, seen: dict[str, int]) -> None:
        """Keep when leased nodes were last heard, for a successor who was not there to hear them."""
        await self._alone()
        await self.connection.execute(
            """
            UPDATE nodes SET last_seen_at = come.at FROM unnest($1::text[], $2::bigint[]) AS come (node_id, at)
            WHERE nodes.node_id = come.node_id AND nodes.last_seen_at < come.at
            """,
            list(seen),
            list(seen.values()),
        )

    async def changed_nodes(self, since: int) -> list[Known]:
        return [
            Known(
                row["node_id"],
                row["boot_id"],
                row["state"] == NodeState.live,
                row["state"] == NodeState.lost,
                frozenset(row["lease_ids"]),
            )
            for row in await self.connection.fetch(_CHANGED, since)
        ]

    async def fleet(self, model: str | None, limit: int) -> list[FleetNode]:
        return [self._fleet_node(row) for row in await self.connection.fetch(_FLEET, model, limit)]

    def _fleet_node(self, row: Any) -> FleetNode:
        node = _node(row)
        gone = node.state is not NodeState.live
        return FleetNode(
            node_id=node.node_id,
            name=node.spec.name,
            model=node.spec.model,
            gpus=node.spec.gpus,
            country=node.spec.location.country,
            bandwidth_tier=node.spec.bandwidth_tier,
            state="lost" if gone else "draining" if node.draining else "leased" if row["leased"] else "free",
            reputation_millis=row["reputation_millis"],
            last_seen_at=max(node.last_seen_at, 0 if gone else self.last_seen(node.node_id)),
            vram_mb=node.spec.vram_mb,
            ask_hourly=node.spec.ask_hourly,
        )


def _candidate(row: Any) -> Candidate:
    stored = dict(row)
    ports = PortBlock(first=stored.pop("ports_first"), count=stored.pop("ports_count"))
    return Candidate(**stored, ports=ports)


def _node(row: Any) -> Node:
    return Node(
        node_id=row["node_id"],
        boot_id=row["boot_id"],
        spec=msgspec.json.decode(row["spec"], type=NodeSpec),
        state=NodeState(row["state"]),
        draining=row["draining"],
        joined_at=row["joined_at"],
        last_seen_at=row["last_seen_at"],
        past_boots=tuple(row["past_boots"]),
    )
