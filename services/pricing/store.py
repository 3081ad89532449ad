"""Pricing's rows: which nodes stand in the pool, right in whatever order the events arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.bus.rows import Rows as BusRows
from services.pricing.kept_quotes import KeptQuotes
from services.pricing.settings import Settings

if TYPE_CHECKING:
    import asyncpg


class Rows(BusRows):
    """The rows of one transaction, and beside them the quotes, which no transaction covers."""

    def __init__(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        now: int,
        cause_id: str,
        settings: Settings,
        quotes: KeptQuotes,
    ) -> None:
        super().__init__(connection, now, cause_id)
        self.settings = settings
        self.quotes = quotes

    async def enter_pool(self, node_id: str, model: str, at: int) -> None:
        await self.connection.execute(
            """
            INSERT INTO pool (node_id, model, present, at) VALUES ($1, $2, true, $3)
            ON CONFLICT (node_id) DO UPDATE SET model = $2, present = true, at = $3 WHERE pool.at < $3
            """,
            node_id,
            model,
            at,
        )

    async def leave_pool(self, node_id: str, at: int) -> None:
        await self.connection.execute(
            """
            INSERT INTO pool (node_id, model, present, at) VALUES ($1, '', false, $2)
            ON CONFLICT (node_id) DO UPDATE SET present = false, at = $2 WHERE pool.at <= $2
            """,
            node_id,
            at,
        )

    async def pool_nodes(self, model: str) -> int:
        found: int = await self.connection.fetchval("SELECT count(*) FROM pool WHERE present AND model = $1", model)
        return found
