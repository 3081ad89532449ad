"""Reputation's rows: evidence that is only ever added, and each node's standing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from libs.bus.rows import Rows as BusRows
from services.reputation.board import Board
from services.reputation.domain.evidence import Evidence
from services.reputation.domain.score import Interval, Standing
from services.reputation.settings import Settings
from wire.reputation import ReputationMove

if TYPE_CHECKING:
    import asyncpg

MOVES_MAX = 100


class Score(msgspec.Struct, frozen=True):
    """A node's standing with the interval that was last made known; `fresh` when it was never made known."""

    node_id: str
    standing: Standing
    interval: Interval
    fresh: bool = False


class Rows(BusRows):
    """The rows of one transaction, and beside them the rank board, which no transaction covers."""

    def __init__(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        now: int,
        cause_id: str,
        settings: Settings,
        board: Board | None,
    ) -> None:
        super().__init__(connection, now, cause_id)
        self.settings = settings
        self.board = board

    async def open_score(self, node_id: str, prior: Interval) -> Score:
        """The node's score, its row locked until the end of the transaction; made with `prior` if it is new."""
        row = await self.connection.fetchrow(
            """
            INSERT INTO standings
                (node_id, good_nanos, bad_nanos, at, lower_millis, mean_millis, upper_millis, scored_at)
            VALUES ($1, 0, 0, 0, $2, $3, $4, $5)
            ON CONFLICT (node_id) DO UPDATE SET node_id = $1
            RETURNING *, xmax = 0 AS fresh
            """,
            node_id,
            prior.lower_millis,
            prior.mean_millis,
            prior.upper_millis,
            self.now,
        )
        assert row is not None, "an upsert returns its row"
        return msgspec.structs.replace(_score(row), fresh=row["fresh"])

    async def score(self, node_id: str) -> Score | None:
        row = await self.connection.fetchrow("SELECT * FROM standings WHERE node_id = $1", node_id)
        return _score(row) if row else None

    async def oldest_scores(self, scored_before: int, limit: int) -> list[Score]:
        """Scores that nothing has renewed since, locked; those another transaction works on are left to it."""
        rows = await self.connection.fetch(
            """
            SELECT * FROM standings WHERE scored_at < $1 ORDER BY scored_at LIMIT $2 FOR UPDATE SKIP LOCKED
            """,
            scored_before,
            limit,
        )
        return [_score(row) for row in rows]

    async def record_scores(self, scores: Sequence[Score]) -> None:
        astuple = msgspec.structs.astuple
        await self.connection.executemany(
            """
            UPDATE standings
            SET good_nanos = $2, bad_nanos = $3, at = $4, lower_millis = $5, mean_millis = $6, upper_millis = $7,
                scored_at = $8, board_stale = board_stale OR lower_millis <> $5
            WHERE node_id = $1
            """,
            [(score.node_id, *astuple(score.standing), *astuple(score.interval), self.now) for score in scores],
        )

    async def add_evidence(self, node_id: str, evidence: Evidence) -> None:
        await self.connection.execute(
            """
            INSERT INTO evidence (node_id, cause_id, at, because, good_millis, bad_millis)
            VALUES ($1, $2, $3, $4, $5, $6)
            """,
            node_id,
            self.cause_id,
            *msgspec.structs.astuple(evidence),
        )

    async def moves(self, node_id: str) -> tuple[ReputationMove, ...]:
        """The newest first."""
        rows = await self.connection.fetch(
            """
            SELECT at, because, good_millis, bad_millis FROM evidence
            WHERE node_id = $1 ORDER BY at DESC, number DESC LIMIT $2
            """,
            node_id,
            MOVES_MAX,
        )
        return tuple(ReputationMove(**dict(row)) for row in rows)

    async def higher_scores(self, lower_millis: int) -> int:
        """How many nodes have a higher lower bound: what the board says, counted where it comes from."""
        count: int = await self.connection.fetchval(
            "SELECT count(*) FROM standings WHERE lower_millis > $1", lower_millis
        )
        return count

    async def stale_on_board(self) -> Mapping[str, int]:
        """Lower bounds the board does not show yet."""
        rows = await self.connection.fetch("SELECT node_id, lower_millis FROM standings WHERE board_stale")
        return {row["node_id"]: row["lower_millis"] for row in rows}

    async def mark_shown(self, lower_bounds: Mapping[str, int]) -> None:
        """The board shows these; a score that has moved on since stays marked."""
        await self.connection.execute(
            """
            UPDATE standings SET board_stale = false
            FROM unnest($1::text[], $2::integer[]) AS shown (node_id, lower_millis)
            WHERE board_stale AND standings.node_id = shown.node_id AND standings.lower_millis = shown.lower_millis
            """,
            list(lower_bounds),
            list(lower_bounds.values()),
        )

    async def all_lower_bounds(self) -> Mapping[str, int]:
        rows = await self.connection.fetch("SELECT node_id, lower_millis FROM standings")
        return {row["node_id"]: row["lower_millis"] for row in rows}


def _score(row: Any) -> Score:
    return Score(
        row["node_id"],
        Standing(row["good_nanos"], row["bad_nanos"], row["at"]),
        Interval(row["lower_millis"], row["mean_millis"], row["upper_millis"]),
    )
