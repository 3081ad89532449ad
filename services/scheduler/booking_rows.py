"""Bookings, leases and jobs as rows; a booking is read and written whole, with its leases."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from libs.bus.rows import Rows as BusRows
from services.scheduler.domain.booking import Booking, Lease, LeaseState, Limits, State, deadline
from services.scheduler.domain.jobs import OPEN, Job, JobState
from wire.job import Artefact, SubmitJob
from wire.values import ClusterRequest, Money, PortBlock, Refusal

T = TypeVar("T")

_UPSERT_BOOKING = """
    INSERT INTO bookings (partner, booking_id, state, order_digest, request, max_total, quote_id, hourly, generation,
        cluster_token, head_lease_id, placed_at, since, ready_at, expires_at, ended_at, end_reason, refusal, failures,
        missing, deadline_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
    ON CONFLICT (partner, booking_id) DO UPDATE SET
        state = $3, hourly = $8, generation = $9, cluster_token = $10, head_lease_id = $11, since = $13,
        ready_at = $14, expires_at = $15, ended_at = $16, end_reason = $17, refusal = $18, failures = $19,
        missing = $20, deadline_at = $21
"""
_CHANGE_LEASES = """
    UPDATE leases SET state = come.state, started_at = come.started_at, ended_at = come.ended_at,
        reason = come.reason, joined = come.joined, blamed = come.blamed
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::boolean[], $7::boolean[])
        AS come (lease_id, state, started_at, ended_at, reason, joined, blamed)
    WHERE leases.lease_id = come.lease_id
"""
# The one place where a plan becomes a lease: a node that is not in the pool any more, or whose fence has moved on,
# grants nothing, and then the whole plan is void.
_GRANT = """
    WITH come AS (
        SELECT * FROM unnest($4::text[], $5::text[], $6::bigint[], $7::integer[], $8::integer[], $9::text[],
            $10::integer[], $11::integer[], $12::integer[], $13::jsonb[])
            AS come (lease_id, node_id, fence, place, number, address, ports_first, ports_count, gpus, hourly)
    ), taken AS (
        UPDATE nodes SET fence = come.fence, last_leased_at = $3, changed_at = $3
        FROM come WHERE nodes.node_id = come.node_id AND nodes.fence = come.fence - 1 AND nodes.state = 'live'
        RETURNING nodes.node_id
    )
    INSERT INTO leases (lease_id, partner, booking_id, place, number, node_id, fence, hourly, address, ports_first,
        ports_count, gpus, state, granted_at, started_at, ended_at, joined, blamed)
    SELECT lease_id, $1, $2, place, number, node_id, fence, hourly, address, ports_first, ports_count, gpus, $14, $3,
        0, 0, false, false
    FROM come JOIN taken USING (node_id)
"""


class PlanConflict(RuntimeError):
    """The pool is not what the plan was made from; the transaction is void, and the message comes again."""


class BookingRows(BusRows):
    """What the scheduler knows of bookings. Everything that decides holds one lock, so decisions come one by one."""

    limits: Limits

    async def _alone(self) -> None:
        """Until the end of the transaction. Two schedulers then never wait for each other's rows in a circle."""
        await self.connection.execute("SELECT pg_advisory_xact_lock(hashtext('decide'), hashtext(current_schema()))")

    async def booking(self, partner: str, booking_id: str) -> Booking | None:
        """To decide upon."""
        await self._alone()
        return await self.peek_booking(partner, booking_id)

    async def peek_booking(self, partner: str, booking_id: str) -> Booking | None:
        """To look at."""
        row = await self.connection.fetchrow(
            "SELECT * FROM bookings WHERE partner = $1 AND booking_id = $2", partner, booking_id
        )
        if row is None:
            return None
        leases = await self.connection.fetch(
            "SELECT * FROM leases WHERE partner = $1 AND booking_id = $2 ORDER BY number", partner, booking_id
        )
        return _booking(row, leases)

    async def booking_of_lease(self, lease_id: str) -> tuple[Booking, Lease] | None:
        await self._alone()
        row = await self.connection.fetchrow("SELECT partner, booking_id FROM leases WHERE lease_id = $1", lease_id)
        booking = await self.peek_booking(row["partner"], row["booking_id"]) if row else None
        lease = booking.lease(lease_id) if booking else None
        return (booking, lease) if booking and lease else None

    async def live_lease_of(self, node_id: str) -> str | None:
        found: str | None = await self.connection.fetchval(
            "SELECT lease_id FROM leases WHERE node_id = $1 AND state <> 'ended'", node_id
        )
        return found

    async def over_leases(self, lease_ids: Sequence[str], node_id: str) -> list[tuple[str, int]]:
        """Those of a node's leases that have ended, with their fences."""
        rows = await self.connection.fetch(
            "SELECT lease_id, fence FROM leases WHERE lease_id = ANY($1) AND node_id = $2 AND state = 'ended'",
            list(lease_ids),
            node_id,
        )
        return [(row["lease_id"], row["fence"]) for row in rows]

    async def newest_bookings(self, partner: str, limit: int) -> list[Booking]:
        rows = await self.connection.fetch(
            "SELECT booking_id FROM bookings WHERE partner = $1 ORDER BY placed_at DESC, booking_id LIMIT $2",
            partner,
            limit,
        )
        found = [await self.peek_booking(partner, row["booking_id"]) for row in rows]
        return [booking for booking in found if booking is not None]

    async def due_bookings(self, limit: int) -> list[tuple[str, str]]:
        return await self._keys("deadline_at <= $1 ORDER BY deadline_at LIMIT $2", self.now, limit)

    async def wanting_bookings(self, limit: int) -> list[tuple[str, str]]:
        return await self._keys("missing > 0 ORDER BY since LIMIT $1", limit)

    async def _keys(self, where: str, *arguments: Any) -> list[tuple[str, str]]:
        rows = await self.connection.fetch(f"SELECT partner, booking_id FROM bookings WHERE {where}", *arguments)
        return [(row["partner"], row["booking_id"]) for row in rows]

    async def save_booking(self, booking: Booking, before: Booking | None) -> None:
        """Write what changed; raises PlanConflict where a node of the plan is not to be had."""
        await self.connection.execute(
            _UPSERT_BOOKING,
            booking.partner,
            booking.booking_id,
            booking.state,
            booking.order_digest,
            _json(booking.request),
            _json(booking.max_total),
            booking.quote_id,
            _json(booking.hourly),
            booking.generation,
            booking.cluster_token,
            booking.head_lease_id,
            booking.placed_at,
            booking.since,
            booking.ready_at,
            booking.expires_at,
            booking.ended_at,
            booking.end_reason,
            _json(booking.refusal),
            booking.failures,
            len(booking.missing),
            deadline(booking, self.limits),
        )
        known = {lease.lease_id: lease for lease in before.leases} if before else {}
        await self._change(lease for lease in booking.leases if known.get(lease.lease_id, lease) != lease)
        await self._grant(booking, [lease for lease in booking.leases if lease.lease_id not in known])

    async def _change(self, leases: Iterable[Lease]) -> None:
        if changed := list(leases):
            names = ("lease_id", "state", "started_at", "ended_at", "reason", "joined", "blamed")
            await self.connection.execute(_CHANGE_LEASES, *([getattr(lease, n) for lease in changed] for n in names))
            await self.connection.execute(
                "UPDATE nodes SET changed_at = $2 WHERE node_id = ANY($1)", [x.node_id for x in changed], self.now
            )

    async def _grant(self, booking: Booking, leases: Sequence[Lease]) -> None:
        if not leases:
            return
        assert all(lease.live for lease in leases), "nobody is granted a lease that is over"
        states = {lease.state for lease in leases}
        assert len(states) == 1, "the leases of one plan are granted alike"
        number = {lease.lease_id: nth for nth, lease in enumerate(booking.leases)}
        status = await self.connection.execute(
            _GRANT,
            booking.partner,
            booking.booking_id,
            leases[0].granted_at,
            *([getattr(lease, name) for lease in leases] for name in ("lease_id", "node_id", "fence", "place")),
            [number[lease.lease_id] for lease in leases],
            [lease.address for lease in leases],
            [lease.ports.first for lease in leases],
            [lease.ports.count for lease in leases],
            [lease.gpus for lease in leases],
            [_json(lease.hourly) for lease in leases],
            leases[0].state,
        )
        if status != f"INSERT 0 {len(leases)}":
            raise PlanConflict(f"{booking.booking_id}: {status} of {len(leases)} leases")

    async def job(self, order_key: dict[str, Any]) -> Job | None:
        await self._alone()
        row = await self.connection.fetchrow(
            "SELECT * FROM jobs WHERE partner = $1 AND booking_id = $2 AND job_id = $3", *order_key.values()
        )
        return _job(row) if row else None

    async def open_jobs(self, booking: Booking) -> list[Job]:
        rows = await self.connection.fetch(
            "SELECT * FROM jobs WHERE partner = $1 AND booking_id = $2 AND state = ANY($3) ORDER BY job_id",
            booking.partner,
            booking.booking_id,
            list(OPEN),
        )
        return [_job(row) for row in rows]

    async def newest_jobs(self, booking: Booking, limit: int) -> list[Job]:
        rows = await self.connection.fetch(
            """
            SELECT * FROM jobs WHERE partner = $1 AND booking_id = $2 ORDER BY submitted_at DESC, job_id LIMIT $3
            """,
            booking.partner,
            booking.booking_id,
            limit,
        )
        return [_job(row) for row in rows]

    async def save_jobs(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            await self.connection.execute(
                """
                INSERT INTO jobs (partner, booking_id, job_id, state, job_order, node_id, attempt, status, detail,
                    result, log, refusal, submitted_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
                ON CONFLICT (partner, booking_id, job_id) DO UPDATE
                    SET state = $4, node_id = $6, attempt = $7, status = $8, detail = $9, result = $10, log = $11,
                        refusal = $12
                """,
                *job.key.values(),
                job.state,
                _json(job.order),
                job.node_id,
                job.attempt,
                job.status,
                job.detail,
                _json(job.result),
                _json(job.log),
                _json(job.refusal),
                self.now,
            )


def _json(value: msgspec.Struct | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _read(text: str | None, kind: type[T]) -> T | None:
    return None if text is None else msgspec.json.decode(text, type=kind)


def _booking(row: Any, leases: Sequence[Any]) -> Booking:
    stored = dict(row)
    for unread in ("missing", "deadline_at"):
        stored.pop(unread)
    return Booking(
        **{
            **stored,
            "state": State(row["state"]),
            "request": msgspec.json.decode(row["request"], type=ClusterRequest),
            "max_total": msgspec.json.decode(row["max_total"], type=Money),
            "hourly": _read(row["hourly"], Money),
            "refusal": _read(row["refusal"], Refusal),
            "leases": tuple(_lease(lease) for lease in leases),
        }
    )


def _lease(row: Any) -> Lease:
    stored = dict(row)
    for unread in ("partner", "booking_id", "number"):
        stored.pop(unread)
    ports = PortBlock(first=stored.pop("ports_first"), count=stored.pop("ports_count"))
    hourly = msgspec.json.decode(stored.pop("hourly"), type=Money)
    return Lease(**{**stored, "state": LeaseState(row["state"]), "ports": ports, "hourly": hourly})


def _job(row: Any) -> Job:
    return Job(
        order=msgspec.json.decode(row["job_order"], type=SubmitJob),
        state=JobState(row["state"]),
        node_id=row["node_id"],
        attempt=row["attempt"],
        status=row["status"],
        detail=row["detail"],
        result=_read(row["result"], Artefact),
        log=_read(row["log"], Artefact),
        refusal=_read(row["refusal"], Refusal),
    )
