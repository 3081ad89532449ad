"""The auditor finds what a superuser did behind the schema's back, and says which invariant it broke."""

import hashlib

import asyncpg
import pytest

from services.ledger.audit import CHECKS
from services.ledger.payday import publish_head
from tests.ledger.builders import HOUR, T0, Desk, booking_ended, broken, deposit, failed, held, passed, span
from wire.ledger import AuditReport, GetAudit

MOVED = ("id", "debit", "credit", "asset", "amount", "kind", "partner", "booking", "lease", "epoch")
CANONICAL = (*MOVED, "cause", "event", "at")
PLANTED = [
    ("UPDATE transfers SET amount = amount + 1 WHERE kind = 'hold'", {"I3", "I6", "I7"}),
    ("UPDATE transfers SET cause = 'another' WHERE kind = 'hold'", {"I7"}),
    ("UPDATE transfers SET credit = 'wallet:globex' WHERE id = 'deposit/pay_1'", {"I2", "I3", "I7"}),
    ("UPDATE transfers SET credit = 'burned' WHERE credit = 'fee'", {"I1", "I3", "I7"}),
    ("UPDATE transfers SET epoch = 5 WHERE id LIKE 'epoch/0/job/pay/%'", {"I7", "I8"}),
    ("DELETE FROM transfers WHERE id = 'deposit/pay_2'", {"I3", "I7"}),
    ("DELETE FROM transfers WHERE sequence = (SELECT max(sequence) FROM transfers)", {"I7"}),
    (
        "DELETE FROM transfers WHERE sequence = (SELECT max(sequence) FROM transfers);"
        " DELETE FROM links WHERE height = (SELECT max(height) FROM links)",
        {"I3", "I7"},
    ),
    ("UPDATE accounts SET balance = balance + 1 WHERE id = 'wallet:globex'", {"I1", "I3"}),
    (
        "UPDATE accounts SET balance = balance + 1 WHERE id = 'wallet:globex';"
        " UPDATE accounts SET balance = balance - 1 WHERE id = 'bank'",
        {"I3"},
    ),
    (
        "ALTER TABLE accounts DROP CONSTRAINT i2_balance_not_negative;"
        " UPDATE accounts SET balance = -1 WHERE id = 'wallet:globex'",
        {"I2", "I3"},
    ),
    ("UPDATE links SET hash = sha256('x') WHERE height = 2", {"I7"}),
    (
        "UPDATE links SET height = height + 1000; UPDATE links SET height ="
        " CASE height WHEN 1001 THEN 3 WHEN 1003 THEN 1 ELSE height - 1000 END",
        {"I2", "I7"},
    ),
    (
        "ALTER TABLE transfers DROP CONSTRAINT transfers_pkey; INSERT INTO transfers (id, debit, credit, asset, amount,"
        " kind, partner, epoch, cause, event, at) SELECT id, debit, credit, asset, amount, kind, partner, epoch, cause,"
        " event, at FROM transfers WHERE id = 'deposit/pay_2'",
        {"I3", "I4", "I7"},
    ),
    (
        "ALTER TABLE transfers ALTER COLUMN body DROP EXPRESSION; UPDATE transfers SET body = sha256('x')"
        " WHERE id = 'deposit/pay_2'",
        {"I4"},
    ),
    (
        "ALTER TABLE transfers DROP CONSTRAINT i9_amount_in_range; UPDATE transfers SET amount = 0"
        " WHERE id = 'deposit/pay_2'",
        {"I3", "I9"},
    ),
    (
        "DROP TRIGGER i6_opens_empty ON bookings; DROP TRIGGER i6_totals_follow_transfers ON bookings;"
        " ALTER TABLE bookings DROP COLUMN remaining, ALTER COLUMN fee TYPE numeric",
        {"I5", "I9"},
    ),
    ("UPDATE bookings SET refunded = refunded - 1, fee = fee + 1", {"I6"}),
    (
        "ALTER TABLE lease_charges DROP CONSTRAINT i6_cost_follows_from_time; UPDATE lease_charges SET billed_ms = 1",
        {"I6"},
    ),
    ("UPDATE lease_charges SET render = render + 1", {"I6"}),
    ("ALTER TABLE pools DROP CONSTRAINT i8_minted_within_emission; UPDATE pools SET emission = 5", {"I5", "I8"}),
    ("UPDATE pools SET emission = emission * 2 WHERE name = 'job'", {"I8"}),
    ("UPDATE rewards SET job_reward = job_reward + 1 WHERE coupons > 0", {"I8"}),
    ("UPDATE rewards SET coupons = coupons + 1 WHERE coupons > 0", {"I8"}),
    ("UPDATE rewards SET weight = weight * 2 WHERE weight > 0", {"I8"}),
    ("UPDATE probes SET weight = weight * 2 WHERE probe = 'c'", {"I8"}),
    ("DELETE FROM probes WHERE NOT passed", {"I8"}),
    ("UPDATE epochs SET usd_render = 0", {"I8"}),
    ("DELETE FROM outbox WHERE subject LIKE '%escrowed'", {"I10"}),
    ("GRANT UPDATE ON transfers TO PUBLIC", {"I5"}),
    ("GRANT DELETE ON links TO ledger", {"I5"}),
]


async def a_life(desk: Desk) -> None:
    await desk.hand_in(deposit(10_000_000), deposit(5_000_000, "pay_2", "globex"), held())
    await desk.hand_in(booking_ended([span(0, T0, T0 + HOUR), span(1, T0, T0 + HOUR // 7)]))
    await desk.hand_in(passed(0, "a"), passed(2, "c", gflops=60_000), failed(2, "d"))
    await desk.close_epoch()
    await desk.work("every/publish_head/1", publish_head)


async def behind_the_back(superuser: asyncpg.Connection, statements: str) -> None:
    tables = ("transfers", "links", "accounts", "bookings", "lease_charges", "pools", "epochs", "rewards", "probes")
    async with superuser.transaction():
        for table in tables:
            await superuser.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        await superuser.execute(statements)
    for table in tables:
        await superuser.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


async def test_an_honest_ledger_passes_and_the_answer_names_every_check(desk: Desk) -> None:
    assert (await desk.audit()).passed, "an empty one"
    await a_life(desk)
    report = await desk.ask(GetAudit(identity="ops"))
    assert isinstance(report, AuditReport)
    assert report.passed
    assert [check.name.split()[0] for check in report.checks] == list(CHECKS)
    assert report.transfers == await desk.connection.fetchval("SELECT count(*) FROM transfers")
    assert bytes.fromhex(report.head) == await desk.connection.fetchval(
        "SELECT hash FROM links ORDER BY height DESC LIMIT 1"
    )


@pytest.mark.parametrize(("statements", "checks"), PLANTED)
async def test_a_planted_corruption_is_found_and_named(
    desk: Desk, superuser: asyncpg.Connection, statements: str, checks: set[str]
) -> None:
    await a_life(desk)
    await behind_the_back(superuser, statements)
    await desk.connection.reload_schema_state()
    report = await desk.audit()
    assert not report.passed
    assert checks <= broken(report)
    assert all(check.detail != "holds" for check in report.checks if check.broken)


@pytest.mark.parametrize(
    ("table", "trigger"),
    [("transfers", "i5_transfers_append_only"), ("transfers", "post_3_balances"), ("batches", "i7_chained_at_commit")],
)
async def test_a_safeguard_that_is_off_is_found(
    desk: Desk, superuser: asyncpg.Connection, table: str, trigger: str
) -> None:
    await a_life(desk)
    await superuser.execute(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
    report = await desk.audit()
    assert broken(report) == {"I5"}
    assert any(trigger in check.detail for check in report.checks)


async def test_history_rewritten_whole_does_not_agree_with_what_was_published(
    desk: Desk, superuser: asyncpg.Connection
) -> None:
    """Somebody changes a transfer and computes the whole chain anew: only the published head gives it away."""
    await a_life(desk)
    statements = ["UPDATE transfers SET cause = 'another' WHERE id = 'deposit/pay_1'"]
    rows = await desk.connection.fetch("SELECT * FROM transfers JOIN links USING (sequence) ORDER BY height")
    head = hashlib.sha256(b"bivouac ledger").digest()
    for row in rows:
        fields = {**row, "cause": "another" if row["id"] == "deposit/pay_1" else row["cause"]}
        head = hashlib.sha256(head + "|".join(str(fields[name]) for name in CANONICAL).encode()).digest()
        statements.append(f"UPDATE links SET hash = '\\x{head.hex()}' WHERE height = {row['height']}")
    await behind_the_back(superuser, ";".join(statements))
    report = await desk.audit()
    assert broken(report) == {"I7"}
    assert any("published" in check.detail for check in report.checks)
