"""The rows of epochs: the one that runs, what was earned in it, and what the closed ones paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from libs.bus.rows import Rows as BusRows
from services.ledger.domain.account import reserve
from services.ledger.domain.emission import Emission
from services.ledger.domain.epoch import Closing, Epoch, Score
from services.ledger.domain.rewards import rnp004
from wire.ledger import NodeReward
from wire.values import LeaseUse, Money, usd

if TYPE_CHECKING:
    import asyncpg

    from services.ledger.settings import Settings

USES_MAX = 500
"""As many uses or rewards as a message can carry."""

# One writer at a time, over all replicas: a group of messages is one transaction, so speed comes from groups, while two
# groups at once would lock the same wallets in opposite orders.
_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('ledger.writer', 0))"
_RUNNING = """
    SELECT e.number, e.started_at, j.emission AS job, a.emission AS availability,
        (SELECT balance FROM accounts WHERE id = $1) AS job_reserve,
        (SELECT balance FROM accounts WHERE id = $2) AS availability_reserve
    FROM epochs AS e JOIN pools AS j ON j.epoch = e.number AND j.name = 'job'
    JOIN pools AS a ON a.epoch = e.number AND a.name = 'availability' WHERE e.ended_at IS NULL
"""
_OPEN = "INSERT INTO epochs (number, started_at) SELECT coalesce(max(number) + 1, 0), $1 FROM epochs RETURNING number"
_OPEN_POOLS = "INSERT INTO pools (epoch, name, emission) VALUES ($1, 'job', $2), ($1, 'availability', $3)"
_COUPONS = "SELECT owner, balance FROM accounts WHERE kind = 'coupon' AND scope = $1 AND balance > 0"
_SCORES = """
    SELECT node, sum(weight) AS weight, sum(score_millionths) AS score, count(*) AS tests FROM probes
    WHERE epoch = $1 GROUP BY node
"""
_BURNED = "SELECT coalesce(sum(render), 0) FROM lease_charges WHERE epoch = $1"
_CLOSE = "UPDATE epochs SET ended_at = $2, usd_compute = $3, usd_render = $4, burned = $5 WHERE number = $1"
_PAY = """
    INSERT INTO rewards (epoch, node, coupons, weight, score_millionths, job_reward, availability_reward)
    SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::numeric[], $5::bigint[], $6::bigint[], $7::bigint[])
"""
_PROBE = """
    INSERT INTO probes (node, probe, epoch, passed, weight, score_millionths, at) VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (node, probe) DO NOTHING
"""
_CLOSED = """
    SELECT e.*, j.emission, j.minted + j.carried_in AS compute_pool, j.carried_in AS compute_carried_in,
        a.minted + a.carried_in AS availability_pool, a.carried_in AS availability_carried_in,
        (SELECT coalesce(sum(coupons), 0) FROM rewards WHERE epoch = e.number)::bigint AS coupons,
        (SELECT coalesce(sum(weight), 0) FROM rewards WHERE epoch = e.number) AS weights,
        (SELECT coalesce(sum(score_millionths), 0) FROM rewards WHERE epoch = e.number) AS scores
    FROM epochs AS e JOIN pools AS j ON j.epoch = e.number AND j.name = 'job'
    JOIN pools AS a ON a.epoch = e.number AND a.name = 'availability'
    WHERE e.ended_at IS NOT NULL AND ($1::bigint IS NULL OR e.number = $1) ORDER BY e.number DESC LIMIT 1
"""
_REWARD = "SELECT * FROM rewards WHERE epoch = $1 AND node = $2"
_USES = """
    SELECT *, count(*) OVER () AS uses FROM lease_charges WHERE node = $1 AND epoch = $2 ORDER BY at, lease LIMIT $3
"""
_HEAD = "SELECT height, hash FROM links ORDER BY height DESC LIMIT 1"
_PUBLISHED = "INSERT INTO heads (height, hash, at) VALUES ($1, $2, $3) ON CONFLICT (height) DO NOTHING RETURNING height"


@dataclass(frozen=True, slots=True)
class Uses:
    """As many as a message can carry, and how many there are beyond."""

    listed: tuple[LeaseUse, ...]
    left_out: int


def use_of(row: Any) -> LeaseUse:
    """From a row of lease_charges."""
    return LeaseUse(
        lease_id=row["lease"],
        node_id=row["node"],
        hourly=usd(row["hourly"]),
        billed_ms=row["billed_ms"],
        cost=usd(row["cost"]),
        fee=usd(row["fee"]),
        burned=usd(row["burned"]),
        coupons=Money(row["coupons"], "COUPON"),
    )


def uses_of(rows: Sequence[Any]) -> Uses:
    """From rows of lease_charges with the number of all of them as `uses`."""
    listed = tuple(use_of(row) for row in rows)
    return Uses(listed, rows[0]["uses"] - len(listed) if rows else 0)


class EpochRows(BusRows):
    """The part of the ledger's rows that belongs to epochs, test jobs and the published chain."""

    def __init__(
        self, connection: asyncpg.Connection[asyncpg.Record], now: int, cause_id: str, settings: Settings
    ) -> None:
        super().__init__(connection, now, cause_id)
        self.settings = settings

    async def alone(self) -> None:
        """From here to the end of the transaction nobody else decides over money."""
        await self.connection.execute(_ALONE)

    async def running_epoch(self) -> Epoch:
        """The epoch that runs; opens the first one."""
        arguments = (reserve("job").id, reserve("availability").id)
        row = await self.connection.fetchrow(_RUNNING, *arguments)
        if row is None:
            await self.open_epoch()
            row = await self.connection.fetchrow(_RUNNING, *arguments)
            assert row is not None, "an epoch was just opened"
        return Epoch(
            number=row["number"],
            started_at=row["started_at"],
            emission=Emission(row["job"], row["availability"]),
            carried_in=Emission(row["job_reserve"], row["availability_reserve"]),
        )

    async def open_epoch(self) -> None:
        """What it may pay is fixed now, before anything is burned in it."""
        number = await self.connection.fetchval(_OPEN, self.now)
        emission = self.settings.emission(number)
        await self.connection.execute(_OPEN_POOLS, number, emission.job, emission.availability)

    async def coupons(self, epoch: int) -> dict[str, int]:
        """Micro-coupons of each node."""
        return {row["owner"]: row["balance"] for row in await self.connection.fetch(_COUPONS, str(epoch))}

    async def scores(self, epoch: int) -> dict[str, Score]:
        """P of each node that was tested."""
        found = {}
        for row in await self.connection.fetch(_SCORES, epoch):
            weight = rnp004.mean_over_tests(int(row["weight"]), row["tests"])
            found[row["node"]] = Score(weight, rnp004.mean_over_tests(int(row["score"]), row["tests"]))
        return found

    async def record_probe(self, node: str, probe: str, epoch: int, passed: bool, score: Score) -> None:
        await self.connection.execute(
            _PROBE, node, probe, epoch, passed, Decimal(score.weight), score.millionths, self.now
        )

    async def close_epoch(self, epoch: Epoch, closing: Closing) -> int:
        """Record what was paid and open the next epoch; returns the RENDER burned in this one."""
        paid = closing.rewards
        await self.connection.execute(
            _PAY,
            epoch.number,
            [reward.node_id for reward in paid],
            [reward.coupons.amount for reward in paid],
            [Decimal(reward.weight) for reward in paid],
            [reward.score_millionths for reward in paid],
            [reward.job_reward.amount for reward in paid],
            [reward.availability_reward.amount for reward in paid],
        )
        burned = int(await self.connection.fetchval(_BURNED, epoch.number))
        await self.connection.execute(_CLOSE, epoch.number, self.now, closing.usd_compute, closing.usd_render, burned)
        await self.open_epoch()
        return burned

    async def closed_epoch(self, number: int | None) -> asyncpg.Record | None:
        """That epoch, or the newest closed one."""
        return await self.connection.fetchrow(_CLOSED, number)

    async def reward(self, epoch: int, node: str) -> NodeReward:
        """What a node was paid; nothing, if it did nothing."""
        row = await self.connection.fetchrow(_REWARD, epoch, node)
        return NodeReward(
            node_id=node,
            coupons=Money(row["coupons"] if row else 0, "COUPON"),
            score_millionths=row["score_millionths"] if row else 0,
            job_reward=Money(row["job_reward"] if row else 0, "RENDER"),
            availability_reward=Money(row["availability_reward"] if row else 0, "RENDER"),
            weight=str(int(row["weight"])) if row else "0",
        )

    async def uses_of_node(self, node: str, epoch: int) -> Uses:
        return uses_of(await self.connection.fetch(_USES, node, epoch, USES_MAX))

    async def new_head(self) -> tuple[int, str] | None:
        """The chain's newest link if it has not been published yet, from now on published."""
        row = await self.connection.fetchrow(_HEAD)
        if row is None or await self.connection.fetchval(_PUBLISHED, row["height"], row["hash"], self.now) is None:
            return None
        return row["height"], row["hash"].hex()
