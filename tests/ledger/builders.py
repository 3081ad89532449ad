"""Messages as the rest of the network would send them to the ledger, and a desk that hands them in one by one."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg

from libs import postgres
from libs.bus import outbox
from services.ledger import audit
from services.ledger.answers import ANSWERS
from services.ledger.audit import Report
from services.ledger.handlers import HANDLES
from services.ledger.settings import Settings
from services.ledger.store import Rows
from wire.booking import BookingEnded, LeaseEnded, LeaseEndReason, LeaseSpan, NodesHeld, ReplacementReady
from wire.ledger import CloseEpoch, Deposit
from wire.message import Message, Query, Reply
from wire.probe import ProbeFailed, ProbePassed
from wire.values import LeaseTerms, ProbeReadings, Reason, usd

M = TypeVar("M", bound=Message)

PARTNER, BOOKING = "acme", "bkg_7"
FOREVER = 2**52
T0 = 1_790_000_000_000
HOUR = 3_600_000
HOURLY = 370_139
"""An RTX 4090's break-even price in micro-USD."""


def node(number: int) -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    return "U" + "A" * 53 + letters[number // 32] + letters[number % 32]


def lease(number: int, hourly: int = HOURLY) -> LeaseTerms:
    return LeaseTerms(lease_id=f"lse_{number}", node_id=node(number), fence=1, hourly=usd(hourly))


def span(number: int, started_at: int, ended_at: int, hourly: int = HOURLY) -> LeaseSpan:
    return LeaseSpan(lease=lease(number, hourly), started_at=started_at, ended_at=ended_at)


def escrow_for(nodes: int, ms: int, hourly: int = HOURLY) -> int:
    """As pricing does: rounded up to a micro-USD."""
    return -(-hourly * nodes * ms // HOUR)


def deposit(amount: int, reference: str = "pay_1", partner: str = PARTNER, **more: Any) -> Deposit:
    return Deposit(operator="ops", partner=partner, amount=usd(amount), reference=reference, **more)


def held(nodes: int = 2, ms: int = HOUR, booking: str = BOOKING, partner: str = PARTNER, **more: Any) -> NodesHeld:
    given = {"escrow": usd(escrow_for(nodes, ms)), "hold_expires_at": FOREVER, **more}
    leases = given.pop("leases", tuple(lease(number) for number in range(nodes)))
    return NodesHeld(partner=partner, booking_id=booking, leases=leases, **given)


def lease_ended(
    ran: LeaseSpan, booking: str = BOOKING, partner: str = PARTNER, reason: LeaseEndReason = "released"
) -> LeaseEnded:
    return LeaseEnded(
        partner=partner,
        booking_id=booking,
        lease=ran.lease,
        started_at=ran.started_at,
        ended_at=ran.ended_at,
        reason=reason,
    )


def replaced(number: int, gap_ms: int, booking: str = BOOKING, partner: str = PARTNER) -> ReplacementReady:
    return ReplacementReady(partner=partner, booking_id=booking, lease=lease(number), gap_ms=gap_ms)


def booking_ended(spans: Sequence[LeaseSpan], booking: str = BOOKING, partner: str = PARTNER) -> BookingEnded:
    return BookingEnded(partner=partner, booking_id=booking, reason="released", spans=tuple(spans))


def passed(number: int, probe: str, gflops: int = 82_580, score: int = 10**6) -> ProbePassed:
    readings = ProbeReadings(bandwidth_kb_s=50_000, memory_mb=24_576, cpu_mhz=3_000, gflops=gflops)
    return ProbePassed(node_id=node(number), probe_id=probe, readings=readings, score_millionths=score)


def failed(number: int, probe: str) -> ProbeFailed:
    return ProbeFailed(
        node_id=node(number), probe_id=probe, kind="product", reason=Reason.wrong_answer, detail="", seed="0" * 64
    )


class Desk:
    """Hands messages to the ledger's handlers, each in a transaction of its own with its outbox, at a time it is told.

    What the bus would do, less the bus: a message that is handed in twice here is one that the inbox did not stop.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        self.url, self.settings, self.now, self.handed = url, settings, T0, 0

    async def open(self) -> None:
        await postgres.migrate(self.url, ["libs.bus", "services.ledger"])
        self.connection = await asyncpg.connect(self.url)

    async def close(self) -> None:
        await self.connection.close()

    async def work(self, cause: str, task: Callable[[Rows], Awaitable[Any]]) -> list[Message]:
        """Returns what it said."""
        async with self.connection.transaction():
            rows = Rows(self.connection, self.now, cause, self.settings)
            await task(rows)
            await outbox.record(self.connection, [(rows, {})])
        return rows.said

    async def hand_in(self, *messages: Message) -> list[Message]:
        said: list[Message] = []
        for message in messages:
            self.handed += 1
            message = message.stamped(f"msg_{self.handed}", self.now)
            handler = HANDLES[type(message)]
            said += await self.work(message.id, lambda rows, h=handler, m=message: h(m, rows))  # type: ignore[misc]
        return said

    async def close_epoch(self, after_ms: int = HOUR) -> list[Message]:
        await self.work("every/close_epoch/0", lambda rows: rows.running_epoch())
        self.now += after_ms
        return await self.hand_in(CloseEpoch(operator="ops"))

    async def ask(self, query: Query) -> Reply:
        answer: Reply | None = None
        async with self.connection.transaction(isolation="repeatable_read", readonly=True):
            answer = await ANSWERS[type(query)](query, Rows(self.connection, self.now, "q", self.settings))
        return answer

    async def audit(self) -> Report:
        async with self.connection.transaction(isolation="repeatable_read", readonly=True):
            return await audit.audit(self.connection)

    async def balance(self, account: str) -> int:
        return await self.connection.fetchval("SELECT balance FROM accounts WHERE id = $1", account) or 0

    async def balances(self) -> dict[str, int]:
        return {row["id"]: row["balance"] for row in await self.connection.fetch("SELECT * FROM accounts")}


def only(said: Sequence[Message], kind: type[M]) -> M:
    """The one message of that kind."""
    (found,) = [message for message in said if isinstance(message, kind)]
    return found


def broken(report: Report) -> set[str]:
    return {check.name.split()[0] for check in report.checks if check.broken}
