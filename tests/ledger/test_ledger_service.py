"""The ledger as it runs: served on a real bus, with messages that come late, twice, changed, or make no sense."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import msgspec
from nats.aio.client import Client

from libs.bus.ask import ask
from services.ledger.__main__ import service
from services.ledger.settings import Settings
from tests.ledger.builders import (
    BOOKING,
    HOUR,
    HOURLY,
    PARTNER,
    T0,
    booking_ended,
    deposit,
    held,
    lease_ended,
    node,
    passed,
    replaced,
    span,
)
from wire.access import MessageRefused
from wire.booking import BookingSettled, EscrowFunded, GapRefunded, LeaseCharged
from wire.ledger import (
    AuditReport,
    Balance,
    CloseEpoch,
    DepositBooked,
    EpochClosed,
    GetAudit,
    GetBalance,
    GetReceipt,
    GetStatement,
    Receipt,
    Statement,
)
from wire.message import encode
from wire.quote import Refused
from wire.values import Reason, usd

RunningService = Callable[..., Any]
QUARTER, GAP = HOUR // 4, 7_000
SPANS = [span(0, T0, T0 + HOUR), span(1, T0, T0 + QUARTER), span(2, T0 + QUARTER + GAP, T0 + HOUR)]


async def test_one_booking_told_on_the_bus(
    settings: Callable[..., Awaitable[Any]], running_service: RunningService, nats_client: Client
) -> None:
    own = await settings("ledger", kind=Settings)
    async with running_service(service(own), own) as running:
        await running.publish(deposit(10_000_000))
        assert (await running.heard(DepositBooked)).wallet == usd(10_000_000)
        hold = await running.publish(held())
        funded = await running.heard(EscrowFunded)
        assert (funded.amount, funded.wallet_left) == (usd(2 * HOURLY), usd(10_000_000 - 2 * HOURLY))
        await running.publish_raw(hold.subject(), encode(hold), "again_under_another_broker_id")
        await running.publish(lease_ended(SPANS[1], reason="node_lost"))
        assert (await running.heard(LeaseCharged)).use.cost == usd(HOURLY * QUARTER // HOUR)
        await running.publish(replaced(2, GAP))
        assert (await running.heard(GapRefunded)).amount == usd(HOURLY * GAP // HOUR)
        await running.publish(booking_ended(SPANS))
        settled = await running.heard(BookingSettled)
        assert settled.escrowed.amount == settled.cost.amount + settled.refunded.amount
        assert settled.cost.amount == settled.fee.amount + settled.burned.amount
        assert [use.lease_id for use in settled.uses] == ["lse_1", "lse_0", "lse_2"]
        await running.publish(passed(0, "probe_1"))
        await running.publish(CloseEpoch(operator="ops"))
        closed = await running.heard(EpochClosed)
        assert [reward.node_id for reward in closed.rewards] == [node(0), node(1), node(2)]
        assert closed.all_coupons.amount == settled.burned.amount
        balance = await ask(nats_client, GetBalance(identity=PARTNER), Balance)
        assert balance == Balance(wallet=usd(10_000_000 - settled.cost.amount), in_escrow=usd(0))
        receipt = await ask(nats_client, GetReceipt(identity=PARTNER, booking_id=BOOKING), Receipt)
        assert (receipt.state, receipt.cost, receipt.uses) == ("settled", settled.cost, settled.uses)
        statement = await ask(nats_client, GetStatement(identity=node(0), node_id=node(0)), Statement)
        assert statement.reward == closed.rewards[0]
        report = await ask(nats_client, GetAudit(identity="ops"), AuditReport, timeout=20)
        assert report.passed, report.checks


async def test_late_repeated_and_changed_messages_change_nothing(
    settings: Callable[..., Awaitable[Any]], running_service: RunningService, nats_client: Client
) -> None:
    own = await settings("ledger", kind=Settings)
    async with running_service(service(own), own) as running:
        await running.publish(deposit(10_000_000))
        await running.heard(DepositBooked)
        await running.publish(booking_ended(SPANS))
        assert (await running.heard(BookingSettled)).cost == usd(0), "there was nothing to settle yet"
        for one in SPANS:
            await running.publish(lease_ended(one))
        hold = await running.publish(held())
        settled = await running.heard(BookingSettled, escrowed=usd(2 * HOURLY))
        expected = sum(HOURLY * (one.ended_at - one.started_at) // HOUR for one in SPANS)
        assert settled.cost.amount == expected
        changed = msgspec.structs.replace(hold, escrow=usd(1))
        await running.publish_raw(changed.subject(), encode(changed), changed.id)
        await running.heard(MessageRefused, message_id=hold.id)
        for message in (booking_ended(SPANS), replaced(2, GAP), lease_ended(SPANS[0]), held(), deposit(10_000_000)):
            await running.publish(message)
        longer = await running.publish(lease_ended(span(0, T0, T0 + 2 * HOUR)))
        refused = await running.heard(MessageRefused, message_id=longer.id)
        assert (refused.identity, refused.refusal.reason) == (PARTNER, Reason.id_reused)
        balance = await ask(nats_client, GetBalance(identity=PARTNER), Balance)
        assert balance == Balance(wallet=usd(10_000_000 - expected), in_escrow=usd(0))
        assert (await ask(nats_client, GetAudit(identity="ops"), AuditReport, timeout=20)).passed


async def test_what_makes_no_sense_is_refused_on_the_bus(
    settings: Callable[..., Awaitable[Any]], running_service: RunningService, nats_client: Client
) -> None:
    own = await settings("ledger", kind=Settings)
    subject = deposit(5).subject()
    told = encode(deposit(5, id="one"))
    bodies = [
        b"{",
        told.replace(b'"amount":5', b'"amount":-1'),
        told.replace(b'"amount":5', b'"amount":NaN'),
        told.replace(b'"amount":5', b'"amount":1e30'),
        told.replace(b'"amount":5', b'"amount":"5"'),
        told.replace(b'"operator":"ops"', b'"operator":"eve"'),
    ]
    async with running_service(service(own), own) as running:
        for number, body in enumerate(bodies):
            await running.publish_raw(subject, body, f"raw_{number}")
        for body in bodies:
            digest = hashlib.sha256(body).hexdigest()
            refusal = await running.heard(MessageRefused, identity="ops", body_digest=digest)
            assert refusal.refusal.reason is Reason.malformed
        refused = await ask(nats_client, GetReceipt(identity="globex", booking_id=BOOKING), Refused)
        assert refused.refusal.reason is Reason.unknown_booking
        connection = await asyncpg.connect(own.database_url)
        assert await connection.fetchval("SELECT count(*) FROM transfers") == 0
        await connection.close()


async def test_many_deposits_at_once_are_each_booked_once(
    settings: Callable[..., Awaitable[Any]], running_service: RunningService, nats_client: Client
) -> None:
    own = await settings("ledger", kind=Settings)
    async with running_service(service(own), own) as running:
        await asyncio.gather(*(running.publish(deposit(1, f"pay_{number}")) for number in range(300)))
        await running.heard(DepositBooked, timeout=60, wallet=usd(300))
        report = await ask(nats_client, GetAudit(identity="ops"), AuditReport, timeout=20)
        assert (report.passed, report.transfers) == (True, 300)
