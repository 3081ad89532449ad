"""Pricing's rows: the pool and its use, what nodes ask, market rates, surge, and how soon clusters got ready."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from libs.bus.rows import Rows as BusRows
from services.pricing.domain.factors.supply import Surge
from services.pricing.domain.standing import Rate
from services.pricing.domain.tariff import Tariff
from services.pricing.kept_quotes import KeptQuotes
from services.pricing.settings import Settings
from services.pricing.view import View
from wire.values import BandwidthTier, LeaseTerms

if TYPE_CHECKING:
    import asyncpg

READY_TIMES_KEPT = 200
"""Of each model, the newest."""


class Rows(BusRows):
    """The rows of one transaction; beside them the quotes and the view, which no transaction covers."""

    def __init__(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        now: int,
        cause_id: str,
        settings: Settings,
        tariff: Tariff,
        quotes: KeptQuotes,
        view: View,
    ) -> None:
        super().__init__(connection, now, cause_id)
        self.settings = settings
        self.tariff = tariff
        self.quotes = quotes
        self.view = view

    async def enter_pool(self, node_id: str, model: str, ask_micros: int, at: int) -> None:
        await self.connection.execute(
            """
            INSERT INTO pool (node_id, model, present, ask_micros, at) VALUES ($1, $2, true, $3, $4)
            ON CONFLICT (node_id) DO UPDATE SET model = $2, present = true, ask_micros = $3, at = $4 WHERE pool.at < $4
            """,
            node_id,
            model,
            ask_micros,
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

    async def occupy(self, leases: Sequence[LeaseTerms], at: int) -> None:
        await self.connection.execute(
            """
            INSERT INTO occupancy (node_id, fence, busy, at)
            SELECT node_id, fence, true, $3 FROM unnest($1::text[], $2::bigint[]) AS lease (node_id, fence)
            ON CONFLICT (node_id) DO UPDATE SET fence = excluded.fence, busy = true, at = $3
            WHERE occupancy.fence < excluded.fence
            """,
            [lease.node_id for lease in leases],
            [lease.fence for lease in leases],
            at,
        )

    async def vacate(self, lease: LeaseTerms, at: int) -> None:
        await self.connection.execute(
            """
            INSERT INTO occupancy (node_id, fence, busy, at) VALUES ($1, $2, false, $3)
            ON CONFLICT (node_id) DO UPDATE SET fence = $2, busy = false, at = $3 WHERE occupancy.fence <= $2
            """,
            lease.node_id,
            lease.fence,
            at,
        )

    async def reoccupy(self, node_ids: Sequence[str], at: int) -> None:
        """These are in a cluster that is ready: a restart gives its nodes new leases that no event names."""
        await self.connection.execute(
            "UPDATE occupancy SET busy = true, at = $2 WHERE node_id = ANY($1::text[]) AND at <= $2", node_ids, at
        )

    async def uses(self) -> Mapping[str, tuple[int, int]]:
        """(leased, all) nodes by model."""
        found = await self.connection.fetch(
            """
            SELECT model, count(*) FILTER (WHERE busy) AS used, count(*) AS total
            FROM pool LEFT JOIN occupancy USING (node_id) WHERE present GROUP BY model
            """
        )
        return {row["model"]: (row["used"], row["total"]) for row in found}

    async def pool(self) -> Iterable[tuple[str, int, bool, int]]:
        """(model, ask, leased, nodes) in ascending order of asks: one pass over the pool for all of a view."""
        found = await self.connection.fetch(
            """
            SELECT model, ask_micros, coalesce(busy, false) AS leased, count(*) AS nodes
            FROM pool LEFT JOIN occupancy USING (node_id) WHERE present
            GROUP BY 1, 2, 3 ORDER BY ask_micros
            """
        )
        return [(row["model"], row["ask_micros"], row["leased"], row["nodes"]) for row in found]

    async def surges(self) -> Mapping[str, Surge]:
        found = await self.connection.fetch("SELECT model, mean, level, at FROM surge")
        return {row["model"]: Surge(row["mean"], row["level"], row["at"]) for row in found}

    async def record_surges(self, surges: Mapping[str, Surge]) -> None:
        await self.connection.execute(
            """
            INSERT INTO surge (model, mean, level, at)
            SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])
            ON CONFLICT (model) DO UPDATE SET mean = excluded.mean, level = excluded.level, at = excluded.at
            WHERE surge.at < excluded.at
            """,
            list(surges),
            [surge.mean for surge in surges.values()],
            [surge.level for surge in surges.values()],
            [surge.at for surge in surges.values()],
        )

    async def rate(self, partner: str, source: str, model: str, tier: str) -> Rate | None:
        found = await self.connection.fetchrow(
            "SELECT * FROM market_rate WHERE (model, partner, tier, source) = ($1, $2, $3, $4) FOR UPDATE",
            model,
            partner,
            tier,
            source,
        )
        return _rate(found) if found else None

    async def other_sources(self, partner: str, source: str, model: str, tier: str) -> int:
        found: int = await self.connection.fetchval(
            "SELECT count(*) FROM market_rate WHERE (model, partner, tier) = ($1, $2, $3) AND source <> $4",
            model,
            partner,
            tier,
            source,
        )
        return found

    async def record_rate(self, model: str, rate: Rate) -> None:
        await self.connection.execute(
            """
            INSERT INTO market_rate (model, partner, tier, source, hourly_micros, observed_at, before_micros, before_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (model, partner, tier, source)
            DO UPDATE SET hourly_micros = $5, observed_at = $6, before_micros = $7, before_at = $8
            """,
            model,
            rate.partner,
            rate.tier,
            rate.source,
            rate.hourly_micros,
            rate.observed_at,
            rate.before_micros,
            rate.before_at,
        )

    async def rates(self) -> Iterable[tuple[str, Rate]]:
        return [(row["model"], _rate(row)) for row in await self.connection.fetch("SELECT * FROM market_rate")]

    async def wait_for(self, partner: str, booking_id: str, model: str, placed_at: int) -> None:
        await self.connection.execute(
            """
            INSERT INTO waiting (partner, booking_id, model, placed_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
            """,
            partner,
            booking_id,
            model,
            placed_at,
        )

    async def record_ready(self, partner: str, booking_id: str, at: int) -> None:
        """The time it took, once, among the newest of its model."""
        model = await self.connection.fetchval(
            """
            WITH done AS (DELETE FROM waiting WHERE (partner, booking_id) = ($1, $2) RETURNING model, placed_at)
            INSERT INTO ready_time (model, at, ms) SELECT model, $3, $3 - placed_at FROM done WHERE placed_at <= $3
            RETURNING model
            """,
            partner,
            booking_id,
            at,
        )
        if model is not None:
            await self.connection.execute(
                "DELETE FROM ready_time WHERE model = $1 AND at < "
                "(SELECT at FROM ready_time WHERE model = $1 ORDER BY at DESC OFFSET $2 LIMIT 1)",
                model,
                READY_TIMES_KEPT - 1,
            )

    async def ready_times(self) -> Iterable[tuple[str, int, int, int]]:
        """(model, p50, p90, samples)."""
        found = await self.connection.fetch(
            """
            SELECT model, percentile_disc(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY ms) AS ms, count(*) AS samples
            FROM ready_time GROUP BY model
            """
        )
        return [(row["model"], row["ms"][0], row["ms"][1], row["samples"]) for row in found]

    async def forget(self, rates_before: int, waiting_before: int) -> None:
        """Rates nobody renews, and bookings that never became ready."""
        await self.connection.execute("DELETE FROM market_rate WHERE observed_at < $1", rates_before)
        await self.connection.execute("DELETE FROM waiting WHERE placed_at < $1", waiting_before)


def _rate(row: asyncpg.Record) -> Rate:
    return Rate(
        partner=row["partner"],
        source=row["source"],
        tier=BandwidthTier(row["tier"]),
        hourly_micros=row["hourly_micros"],
        observed_at=row["observed_at"],
        before_micros=row["before_micros"],
        before_at=row["before_at"],
    )
