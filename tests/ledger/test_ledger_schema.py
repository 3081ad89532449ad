"""Each invariant, broken by hand with SQL: the schema itself refuses, as the service's role and as superuser."""

import re

import asyncpg
import pytest

from services.ledger.domain.account import ASSETS, MAY_BE_NEGATIVE
from tests.ledger.builders import BOOKING, HOUR, PARTNER, T0, Desk, broken, deposit, held, lease_ended, span

ESCROW, WALLET = f"escrow:{PARTNER}/{BOOKING}", f"wallet:{PARTNER}"
TRANSFER = """
    INSERT INTO transfers (id, debit, credit, asset, amount, kind, partner, booking, lease, epoch, cause, event, at)
    VALUES ({id}, {debit}, {credit}, {asset}, {amount}, {kind}, {partner}, {booking}, {lease}, {epoch}, 'x', {event}, 1)
"""
DEPOSIT = {
    "id": "'by_hand'",
    "debit": "'bank'",
    "credit": f"'{WALLET}'",
    "asset": "'USD'",
    "amount": "5",
    "kind": "'plain'",
    "partner": f"'{PARTNER}'",
    "booking": "''",
    "lease": "''",
    "epoch": "0",
    "event": "(SELECT event FROM transfers ORDER BY sequence LIMIT 1)",
}


def transfer(**changes: str) -> str:
    return TRANSFER.format(**{**DEPOSIT, **changes})


def of_booking(kind: str, debit: str, credit: str, **changes: str) -> str:
    given = {"booking": f"'{BOOKING}'", "lease": "'lse_1'", **changes}
    return transfer(kind=f"'{kind}'", debit=f"'{debit}'", credit=f"'{credit}'", **given)


def pool(debit: str, credit: str, amount: str = "5", **changes: str) -> str:
    return transfer(debit=f"'{debit}'", credit=f"'{credit}'", asset="'RENDER'", amount=amount, partner="''", **changes)


EMISSION = "(SELECT emission FROM pools WHERE name = 'job')"
EXACTLY_ALLOWED = [
    transfer(),
    transfer(amount="999999999989999994"),
    of_booking("void", ESCROW, WALLET),
    of_booking("post", ESCROW, "fee"),
    pool("render_mint", "pool:job/0", EMISSION),
]
REFUSED = {
    "I1 unknown account": transfer(credit="'wallet:nobody'"),
    "I1 other asset": transfer(asset="'RENDER'"),
    "I1 assets differ": transfer(credit="'burned'", asset="'USD'"),
    "I1 to itself": transfer(credit="'bank'"),
    "I1 no such route": transfer(debit=f"'{WALLET}'", credit="'fee'"),
    "I1 minting money": transfer(debit="'fee'", credit=f"'{WALLET}'"),
    "I1 another's wallet": transfer(partner="'globex'"),
    "I1 hold from another's wallet": of_booking("hold", "wallet:globex", ESCROW),
    "I1 refund to another": of_booking("void", ESCROW, "wallet:globex"),
    "I1 void out of another booking": of_booking("void", ESCROW, WALLET, booking="'bkg_8'"),
    "I6 post without lease": of_booking("post", ESCROW, "fee", lease="''"),
    "I1 escrow by plain": of_booking("plain", ESCROW, WALLET),
    "I2 wallet overdrawn": of_booking("hold", WALLET, "escrow:acme/bkg_9", booking="'bkg_9'", amount="99999999"),
    "I2 escrow overdrawn": of_booking("post", ESCROW, "fee", amount="9000001"),
    "I2 pool overdrawn": pool("pool:job/0", "pay:U1", "1"),
    "I2 reserve overdrawn": pool("reserve:job", "pool:job/0", "1"),
    "I3 balance by hand": f"UPDATE accounts SET balance = balance + 1 WHERE id = '{WALLET}'",
    "I3 system balance by hand": "UPDATE accounts SET balance = balance + 1 WHERE id = 'bank'",
    "I3 limit by hand": f"UPDATE accounts SET allow_negative = true WHERE id = '{WALLET}'",
    "I3 account deleted": f"DELETE FROM accounts WHERE id = '{WALLET}'",
    "I3 accounts emptied": "TRUNCATE accounts CASCADE",
    "I3 opens with money": "INSERT INTO accounts (id, kind, asset, allow_negative, owner, balance, opened_at)"
    " VALUES ('wallet:x', 'wallet', 'USD', false, 'x', 1, 0)",
    "I3 opens negative": "INSERT INTO accounts (id, kind, asset, allow_negative, owner, opened_at)"
    " VALUES ('wallet:x', 'wallet', 'USD', true, 'x', 0)",
    "I3 id of another": "INSERT INTO accounts (id, kind, asset, allow_negative, owner, opened_at)"
    " VALUES ('wallet:y', 'wallet', 'USD', false, 'x', 0)",
    "I4 same id": "INSERT INTO transfers (id, debit, credit, asset, amount, kind, partner, epoch, cause, event, at)"
    " SELECT id, debit, credit, asset, amount, kind, partner, epoch, cause, event, at FROM transfers LIMIT 1",
    "I4 same id, other body": "INSERT INTO transfers (id, debit, credit, asset, amount, kind, partner, epoch, cause,"
    " event, at) SELECT id, debit, credit, asset, amount + 1, kind, partner, epoch, cause, event, at"
    " FROM transfers LIMIT 1",
    "I5 update": "UPDATE transfers SET amount = 1",
    "I5 update of nothing": "UPDATE transfers SET amount = 1 WHERE false",
    "I5 delete": "DELETE FROM transfers",
    "I5 truncate": "TRUNCATE transfers",
    "I5 batch": "INSERT INTO batches (first_sequence, transfers) VALUES (1, 1)",
    "I5 batches deleted": "DELETE FROM batches",
    "I6 totals by hand": "UPDATE bookings SET refunded = refunded + 1",
    "I6 ended with money left": "UPDATE bookings SET ended_at = 5 WHERE escrowed > 0",
    "I6 decided anew": "UPDATE bookings SET escrow = 'none' WHERE escrow = 'funded'",
    "I6 deleted": "DELETE FROM bookings",
    "I6 opens with money": "INSERT INTO bookings (partner, booking, opened_at, escrow, asked, escrowed)"
    " VALUES ('a', 'b', 0, 'funded', 5, 5)",
    "I6 no such booking": of_booking("hold", WALLET, "escrow:acme/bkg_8", booking="'bkg_8'"),
    "I6 hold twice": of_booking("hold", WALLET, ESCROW, amount="5"),
    "I6 charge that does not add up": "INSERT INTO lease_charges SELECT partner, booking, 'lse_1', node, epoch, hourly,"
    " billed_ms, cost, fee + 1, burned, coupons, render, at FROM lease_charges",
    "I6 charge for other time": "INSERT INTO lease_charges SELECT partner, booking, 'lse_1', node, epoch, hourly,"
    " billed_ms * 2, cost, fee, burned, coupons, render, at FROM lease_charges",
    "I6 charge changed": "UPDATE lease_charges SET node = 'x'",
    "I6 span changed": "UPDATE lease_spans SET ended_at = ended_at + 1",
    "I6 gap deleted": "DELETE FROM gaps",
    "I6 refund deleted": "DELETE FROM gap_refunds",
    "I7 link by hand": "INSERT INTO links (height, sequence, hash) VALUES (99, 99, sha256('x'))",
    "I7 link changed": "UPDATE links SET hash = sha256('x')",
    "I7 link deleted": "DELETE FROM links",
    "I7 head changed": "UPDATE heads SET hash = sha256('x')",
    "I7 head deleted": "TRUNCATE heads",
    "I8 more than the emission": pool(
        "render_mint", "pool:job/0", "(SELECT emission + 1 FROM pools WHERE name = 'job')"
    ),
    "I1 pool of another epoch": pool("render_mint", "pool:job/1"),
    "I8 epoch that does not run": transfer(epoch="1"),
    "I8 epoch skipped": "INSERT INTO epochs (number, started_at) VALUES (7, 0)",
    "I8 two epochs": "INSERT INTO epochs (number, started_at) VALUES (1, 0)",
    "I8 closed with a full pool": pool("render_mint", "pool:job/0") + "; UPDATE epochs SET ended_at = started_at + 1",
    "I8 emission raised": "UPDATE pools SET emission = emission + 1",
    "I8 pool by hand": "UPDATE pools SET minted = 5",
    "I8 pool deleted": "DELETE FROM pools",
    "I8 epoch deleted": "DELETE FROM epochs",
    "I8 epoch moved": "UPDATE epochs SET started_at = 0",
    "I8 pay without work": "INSERT INTO rewards VALUES (0, 'U1', 0, 0, 0, 5, 0)",
    "I8 failed test that weighs": "INSERT INTO probes VALUES ('U1', 'p', 0, false, 5, 0, 0)",
    "I9 zero": transfer(amount="0"),
    "I9 negative": transfer(amount="-5"),
    "I9 too much": transfer(amount="1000000000000000000"),
    "I9 out of 64 bits": transfer(amount="9223372036854775808"),
    "I9 balance out of range": transfer(amount="999999999989999995"),
    "I9 no number": transfer(amount="'NaN'"),
    "I10 no event": transfer(event="'nobody/said'"),
    "I7 a bar in a word": transfer(id="'a|b'"),
    "I7 a backslash": transfer(id="E'a\\\\b'"),
    "I1 route added": "INSERT INTO routes VALUES ('plain', 'fee', 'wallet')",
    "I1 route changed": "UPDATE routes SET credit_kind = 'wallet' WHERE credit_kind = 'fee'",
    "I1 kinds changed": "UPDATE account_kinds SET allow_negative = true",
}


async def _prepare(desk: Desk) -> None:
    await desk.hand_in(deposit(10_000_000), deposit(5, "pay_2", "globex"), held())
    await desk.hand_in(lease_ended(span(0, T0, T0 + HOUR // 3)), lease_ended(span(1, 0, T0)))
    await desk.connection.execute(
        """
        INSERT INTO accounts (id, kind, asset, allow_negative, owner, scope, opened_at) VALUES
            ('pool:job/0', 'pool', 'RENDER', false, 'job', '0', 0),
            ('pool:job/1', 'pool', 'RENDER', false, 'job', '1', 0),
            ('pay:U1', 'pay', 'RENDER', false, 'U1', '', 0),
            ('escrow:acme/bkg_8', 'escrow', 'USD', false, 'acme', 'bkg_8', 0),
            ('escrow:acme/bkg_9', 'escrow', 'USD', false, 'acme', 'bkg_9', 0);
        INSERT INTO bookings (partner, booking, opened_at, escrow, asked)
            VALUES ('acme', 'bkg_9', 0, 'funded', 99999999)
        """
    )


MISSPELT = (asyncpg.PostgresSyntaxError, asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError)


async def _refused(connection: asyncpg.Connection, statement: str) -> str:
    """By which invariant ('?' where a key or a type refused), in a transaction that commits if it can; else ''."""
    try:
        async with connection.transaction():
            await connection.execute(statement)
    except MISSPELT:
        raise
    except asyncpg.InsufficientPrivilegeError:
        return "right"
    except asyncpg.PostgresError as error:
        found = re.match(r"(I\d+): |.*constraint \"(i\d+)_", str(error))
        return (found[1] or found[2].upper()) if found else "?"
    return ""


async def test_every_breach_is_refused_to_the_service_and_to_a_superuser(
    desk: Desk, superuser: asyncpg.Connection
) -> None:
    await _prepare(desk)
    before = await desk.balances()
    for name, statement in REFUSED.items():
        assert await _refused(superuser, statement) in (name.split()[0], "?"), name
        assert await _refused(desk.connection, statement) in (name.split()[0], "?", "right"), name
    assert await desk.balances() == before
    assert (await desk.audit()).passed


@pytest.mark.parametrize("statement", EXACTLY_ALLOWED)
async def test_the_same_statements_without_the_breach_go_through(desk: Desk, statement: str) -> None:
    await _prepare(desk)
    assert not await _refused(desk.connection, statement)
    assert not broken(await desk.audit()) - {"I6"}, "a post by hand has no charge; nothing else may be wrong"


async def test_the_role_of_the_service_has_no_right_to_change_history(desk: Desk) -> None:
    for table in ("transfers", "batches", "links", "heads"):
        for right in ("UPDATE", "DELETE", "TRUNCATE"):
            assert not await desk.connection.fetchval("SELECT has_table_privilege($1, $2)", table, right)


async def test_two_transactions_that_post_at_once_neither_deadlock_nor_fork_the_chain(
    desk: Desk, superuser: asyncpg.Connection
) -> None:
    await _prepare(desk)
    first, second = superuser.transaction(), desk.connection.transaction()
    await first.start()
    await second.start()
    await superuser.execute(pool("render_mint", "pool:job/0", id="'mint_1'"))
    await desk.connection.execute(transfer(id="'first'"))
    await first.commit()
    await second.commit()
    order = await desk.connection.fetch("SELECT id FROM transfers JOIN links USING (sequence) ORDER BY height")
    assert [row["id"] for row in order[-2:]] == ["mint_1", "first"]
    assert "I7" not in broken(await desk.audit())


async def test_the_schema_knows_the_same_accounts_as_the_domain(desk: Desk) -> None:
    rows = await desk.connection.fetch("SELECT * FROM account_kinds")
    assert {row["kind"]: row["asset"] for row in rows} == ASSETS
    assert {row["kind"] for row in rows if row["allow_negative"]} == MAY_BE_NEGATIVE
