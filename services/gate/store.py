"""The gate's rows: partners and bans, both only ever added to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from libs.bus.rows import Rows as BusRows
from services.gate.domain.registration import Holder
from wire.access import IdentityBanned
from wire.values import Reason

if TYPE_CHECKING:
    import asyncpg


class Rows(BusRows):
    """The rows of one transaction, and the operators, whom the settings name (name by public key)."""

    def __init__(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        now: int,
        cause_id: str,
        operators: dict[str, str],
    ) -> None:
        super().__init__(connection, now, cause_id)
        self.operators = operators

    async def holders(self, partner: str, public_key: str) -> tuple[Holder, ...]:
        """Who has that name or that key; nobody else registers until the end of the transaction."""
        await self.connection.execute("LOCK TABLE partners IN SHARE ROW EXCLUSIVE MODE")
        rows = await self.connection.fetch(
            "SELECT partner, public_key FROM partners WHERE partner = $1 OR public_key = $2", partner, public_key
        )
        return tuple(Holder(row["partner"], row["public_key"]) for row in rows)

    async def add_partner(self, partner: str, public_key: str) -> None:
        await self.connection.execute(
            "INSERT INTO partners (partner, public_key, registered_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            partner,
            public_key,
            self.now,
        )

    async def is_banned(self, public_key: str) -> bool:
        found: bool = await self.connection.fetchval(
            "SELECT EXISTS (SELECT FROM bans WHERE public_key = $1)", public_key
        )
        return found

    async def ban(self, public_key: str, reason: Reason, evidence: str) -> IdentityBanned:
        """The ban that is in force, which is the first one."""
        row = await self.connection.fetchrow(
            """
            INSERT INTO bans (public_key, reason, evidence, banned_at) VALUES ($1, $2, $3, $4)
            ON CONFLICT (public_key) DO UPDATE SET public_key = $1
            RETURNING reason, evidence
            """,
            public_key,
            str(reason),
            evidence,
            self.now,
        )
        assert row is not None, "an upsert returns its row"
        return IdentityBanned(public_key=public_key, reason=Reason(row["reason"]), evidence=row["evidence"])

    async def partners_since(self, registered_at: int) -> list[Holder]:
        rows = await self.connection.fetch(
            "SELECT partner, public_key FROM partners WHERE registered_at >= $1", registered_at
        )
        return [Holder(row["partner"], row["public_key"]) for row in rows]

    async def bans_since(self, banned_at: int) -> list[tuple[str, str]]:
        """Public keys with the reason."""
        rows = await self.connection.fetch("SELECT public_key, reason FROM bans WHERE banned_at >= $1", banned_at)
        return [(row["public_key"], row["reason"]) for row in rows]
