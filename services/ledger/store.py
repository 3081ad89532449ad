"""The ledger's rows: transfers, balances and the escrow of bookings. Money moves in `post` and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from services.ledger.domain.account import Account
from services.ledger.domain.settlement import Facts, Gap
from services.ledger.domain.transfer import Transfer, deposit_id
from services.ledger.epoch_rows import USES_MAX, EpochRows, Uses, use_of, uses_of
from wire.booking import LeaseSpan, NodesHeld
from wire.values import LeaseTerms, LeaseUse, Refusal, usd

_POST = """
    WITH opened AS (
        INSERT INTO accounts (id, kind, asset, allow_negative, owner, scope, opened_at)
        SELECT o.id, o.kind, k.asset, k.allow_negative, o.owner, o.scope, $1
        FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS o (id, kind, owner, scope)
        JOIN account_kinds AS k ON k.kind = o.kind ORDER BY o.id ON CONFLICT (id) DO NOTHING
    )
    INSERT INTO transfers (id, debit, credit, asset, amount, kind, partner, booking, lease, event, epoch, cause, at)
    SELECT id, debit, credit, asset, amount, kind, partner, booking, lease, event, $6, $7, $1
    FROM unnest($8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::text[], $14::text[], $15::text[],
        $16::text[], $17::text[]) WITH ORDINALITY
        AS t (id, debit, credit, asset, amount, kind, partner, booking, lease, event, nth)
    ORDER BY nth ON CONFLICT (id) DO NOTHING RETURNING id
"""
_POSTED = "SELECT id, debit, credit, amount, kind, partner, booking, lease FROM transfers WHERE id = ANY($1::text[])"
_BALANCES = "SELECT id, balance FROM accounts WHERE id = ANY($1::text[])"
_IN_ESCROW = "SELECT coalesce(sum(balance), 0)::bigint FROM accounts WHERE kind = 'escrow' AND owner = $1"
_OPEN = """
    WITH alone AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtextextended('ledger.writer', 0)))
    INSERT INTO bookings (partner, booking, opened_at) SELECT $1, $2, $3 FROM alone ON CONFLICT DO NOTHING
"""
_FACTS = """
    SELECT b.*,
        (SELECT jsonb_agg(s) FROM lease_spans AS s WHERE (s.partner, s.booking) = ($1, $2)) AS spans,
        (SELECT jsonb_agg(c) FROM lease_charges AS c WHERE (c.partner, c.booking) = ($1, $2)) AS uses,
        (SELECT jsonb_agg(g) FROM gaps AS g WHERE (g.partner, g.booking) = ($1, $2)) AS gaps,
        (SELECT array_agg(r.lease) FROM gap_refunds AS r WHERE (r.partner, r.booking) = ($1, $2)) AS gaps_refunded
    FROM bookings AS b WHERE (b.partner, b.booking) = ($1, $2)
"""
_DECIDE = """
    UPDATE bookings SET escrow = $3, asked = $4, leases = $5::jsonb, refusal = $6::jsonb
    WHERE (partner, booking) = ($1, $2)
"""
_END = "UPDATE bookings SET ended_at = coalesce(ended_at, $3) WHERE (partner, booking) = ($1, $2)"
_SPANS = """
    INSERT INTO lease_spans (partner, booking, lease, node, fence, hourly, started_at, ended_at)
    SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
"""
_CHARGES = """
    INSERT INTO lease_charges
        (partner, booking, epoch, at, lease, node, hourly, billed_ms, cost, fee, burned, coupons, render)
    SELECT $1, $2, $3, $4, * FROM unnest($5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[],
        $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])
"""
_GAP = "INSERT INTO gaps (partner, booking, lease, hourly, gap_ms) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING"
_GAP_REFUNDS = """
    INSERT INTO gap_refunds (partner, booking, lease, amount) SELECT $1, $2, * FROM unnest($3::text[], $4::bigint[])
"""
_TOTALS = "SELECT * FROM bookings WHERE (partner, booking) = ($1, $2)"
_USES = """
    SELECT *, count(*) OVER () AS uses FROM lease_charges WHERE (partner, booking) = ($1, $2)
    ORDER BY at, lease LIMIT $3
"""


class TransferReused(Exception):
    """A transfer's id was used for another transfer: a mistake of ours, by which no money may move."""


@dataclass(frozen=True, slots=True)
class Totals:
    """A booking's money as the schema keeps it."""

    escrow: str
    ended: bool
    escrowed: int
    fee: int
    burned: int
    refunded: int
    remaining: int


class Rows(EpochRows):
    """The rows of one message's transaction."""

    async def post(self, epoch: int, transfers: Sequence[Transfer]) -> None:
        """Move money, in one statement; accounts open when they are first named, repeats move nothing.

        The schema refuses what may not be (overdraft, overflow, no such route), which undoes the transaction: whoever
        posts has looked at the balances. Raises TransferReused where an id stands for another transfer already.
        """
        if not transfers:
            return
        accounts = {account.id: account for t in transfers for account in (t.debit, t.credit)}
        posted = await self.connection.fetch(
            _POST,
            self.now,
            list(accounts),
            [account.kind for account in accounts.values()],
            [account.owner for account in accounts.values()],
            [account.scope for account in accounts.values()],
            epoch,
            self.cause_id,
            [t.id for t in transfers],
            [t.debit.id for t in transfers],
            [t.credit.id for t in transfers],
            [t.debit.asset for t in transfers],
            [t.amount for t in transfers],
            [t.kind for t in transfers],
            [t.partner for t in transfers],
            [t.booking for t in transfers],
            [t.lease for t in transfers],
            [t.event for t in transfers],
        )
        if len(posted) < len(transfers):
            await self._compare(transfers)

    async def _compare(self, transfers: Sequence[Transfer]) -> None:
        stored = {row["id"]: tuple(row) for row in await self.connection.fetch(_POSTED, [t.id for t in transfers])}
        for t in transfers:
            if stored[t.id] != (t.id, t.debit.id, t.credit.id, t.amount, t.kind, t.partner, t.booking, t.lease):
                raise TransferReused(f"{t.id} stands for another transfer")

    async def balances(self, *accounts: Account) -> list[int]:
        """One each, 0 for an account that was never opened."""
        rows = await self.connection.fetch(_BALANCES, [account.id for account in accounts])
        found = {row["id"]: row["balance"] for row in rows}
        return [found.get(account.id, 0) for account in accounts]

    async def deposited(self, reference: str) -> tuple[str, int] | None:
        """The wallet and the amount that a payment was booked for."""
        rows = await self.connection.fetch(_POSTED, [deposit_id(reference)])
        return (rows[0]["credit"], rows[0]["amount"]) if rows else None

    async def in_escrow(self, partner: str) -> int:
        return int(await self.connection.fetchval(_IN_ESCROW, partner))

    async def booking(self, partner: str, booking: str) -> Facts:
        """What is known of a booking, which nobody else changes until this transaction ends; opens an unknown one."""
        await self.connection.execute(_OPEN, partner, booking, self.now)
        row = await self.connection.fetchrow(_FACTS, partner, booking)
        assert row is not None, "the booking was just opened"
        return Facts(
            escrow=row["escrow"],
            asked=row["asked"],
            gang=msgspec.json.decode(row["leases"], type=tuple[LeaseTerms, ...]),
            refusal=msgspec.json.decode(row["refusal"], type=Refusal) if row["refusal"] else None,
            ended=row["ended_at"] is not None,
            escrowed=row["escrowed"],
            refunded=row["refunded"],
            spans=tuple(_span(span) for span in _json(row["spans"])),
            uses=tuple(use_of(use) for use in _json(row["uses"])),
            gaps=tuple(Gap(gap["lease"], gap["hourly"], gap["gap_ms"]) for gap in _json(row["gaps"])),
            gaps_refunded=frozenset(row["gaps_refunded"] or ()),
        )

    async def decide_escrow(self, held: NodesHeld, refusal: Refusal | None) -> None:
        """Once for each booking; it stands."""
        await self.connection.execute(
            _DECIDE,
            held.partner,
            held.booking_id,
            "declined" if refusal else "funded",
            held.escrow.amount,
            msgspec.json.encode(held.leases).decode(),
            msgspec.json.encode(refusal).decode() if refusal else None,
        )

    async def end_booking(self, partner: str, booking: str) -> None:
        await self.connection.execute(_END, partner, booking, self.now)

    async def record_spans(self, partner: str, booking: str, spans: Sequence[LeaseSpan]) -> None:
        await self.connection.execute(
            _SPANS,
            partner,
            booking,
            [span.lease.lease_id for span in spans],
            [span.lease.node_id for span in spans],
            [span.lease.fence for span in spans],
            [span.lease.hourly.amount for span in spans],
            [span.started_at for span in spans],
            [span.ended_at for span in spans],
        )

    async def record_charges(
        self, partner: str, booking: str, epoch: int, charges: Sequence[tuple[LeaseUse, int]]
    ) -> None:
        """Each with the base units of RENDER that were burned for it."""
        await self.connection.execute(
            _CHARGES,
            partner,
            booking,
            epoch,
            self.now,
            [use.lease_id for use, _ in charges],
            [use.node_id for use, _ in charges],
            [use.hourly.amount for use, _ in charges],
            [use.billed_ms for use, _ in charges],
            [use.cost.amount for use, _ in charges],
            [use.fee.amount for use, _ in charges],
            [use.burned.amount for use, _ in charges],
            [use.coupons.amount for use, _ in charges],
            [render for _, render in charges],
        )

    async def record_gap(self, partner: str, booking: str, gap: Gap) -> None:
        await self.connection.execute(_GAP, partner, booking, gap.lease_id, gap.hourly, gap.gap_ms)

    async def record_gap_refunds(self, partner: str, booking: str, gaps: Sequence[Gap]) -> None:
        await self.connection.execute(
            _GAP_REFUNDS, partner, booking, [gap.lease_id for gap in gaps], [gap.amount for gap in gaps]
        )

    async def totals(self, partner: str, booking: str) -> Totals | None:
        row = await self.connection.fetchrow(_TOTALS, partner, booking)
        if row is None:
            return None
        return Totals(
            escrow=row["escrow"],
            ended=row["ended_at"] is not None,
            escrowed=row["escrowed"],
            fee=row["fee"],
            burned=row["burned"],
            refunded=row["refunded"],
            remaining=row["remaining"],
        )

    async def uses_of_booking(self, partner: str, booking: str) -> Uses:
        return uses_of(await self.connection.fetch(_USES, partner, booking, USES_MAX))


def _json(rows: str | None) -> list[dict[str, Any]]:
    return msgspec.json.decode(rows, type=list[dict[str, Any]]) if rows else []


def _span(row: Mapping[str, Any]) -> LeaseSpan:
    hourly = usd(row["hourly"])
    terms = LeaseTerms(lease_id=row["lease"], node_id=row["node"], fence=row["fence"], hourly=hourly)
    return LeaseSpan(lease=terms, started_at=row["started_at"], ended_at=row["ended_at"])
