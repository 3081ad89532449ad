"""The auditor: reads every transfer again and re-checks each invariant with code of its own; shares none with posting.

python -m services.ledger.audit postgresql://…      prints the report; exit status 1 where anything is broken
"""

import asyncio
import sys
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import asyncpg

from services.ledger.audit_replay import MAY_BE_NEGATIVE, Findings, Replay

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

CHECKS = {
    "I1": "debits equal credits in every asset, and no transfer changes an asset",
    "I2": "wallets, escrow, pools and pay were never negative",
    "I3": "every balance is the sum of its transfers",
    "I4": "every transfer stands once, with the body it was booked with",
    "I5": "nothing of history can be changed: triggers are on, constraints stand, rights are revoked",
    "I6": "escrowed = fee + burned + refunded + remaining for every booking, 0 remaining when it has ended",
    "I7": "the hash chain follows from the first transfer on, and agrees with every published head",
    "I8": "no epoch paid more than its emission and what was carried over, and each reward follows from its figures",
    "I9": "amounts and balances are integers in range",
    "I10": "every transfer's event stands in the outbox",
}
GUARDED = {
    "transfers": {
        "i5_transfers_append_only",
        "post_1_routes",
        "post_2_epoch",
        "post_3_balances",
        "post_4_escrow",
        "post_5_pools",
        "post_6_batch",
    },
    "batches": {"i5_batches_append_only", "i5_batches_by_transfers", "i7_chained_at_commit"},
    "links": {"i7_links_append_only", "i7_links_by_transfers"},
    "heads": {"i7_heads_append_only"},
    "accounts": {"accounts_stay", "i3_account_opens_empty", "i3_balance_follows_transfers"},
    "account_kinds": {"kinds_stay"},
    "routes": {"routes_stay"},
    "bookings": {"bookings_stay", "i6_opens_empty", "i6_totals_follow_transfers", "bookings_keep_their_word"},
    "pools": {"pools_stay", "i8_pools_open_empty", "i8_pools_follow_transfers"},
    "epochs": {"epochs_stay", "i8_closes_paid", "i8_closed_is_final", "i8_epochs_in_order"},
    "lease_spans": {"lease_spans_append_only"},
    "lease_charges": {"lease_charges_append_only"},
    "gaps": {"gaps_append_only"},
    "gap_refunds": {"gap_refunds_append_only"},
    "probes": {"probes_append_only"},
    "rewards": {"rewards_append_only"},
}
CONSTRAINTS = {
    "i1_transfer_moves",
    "i2_balance_not_negative",
    "i3_account_id_says_what_it_is",
    "i6_a_coupon_is_a_dollar_burned",
    "i6_cost_follows_from_time",
    "i6_ended_is_empty",
    "i6_escrow_is_what_was_asked",
    "i6_escrow_names_its_booking",
    "i6_escrow_not_overspent",
    "i6_fee_and_burned_are_the_cost",
    "i6_post_names_its_lease",
    "i7_transfer_fields_are_plain",
    "i8_a_failed_test_weighs_nothing",
    "i8_epoch_runs_forward",
    "i8_minted_within_emission",
    "i8_no_work_no_pay",
    "i8_paid_within_pool",
    "i9_amount_in_range",
    "i9_balance_in_range",
    "transfers_pkey",
}
_CONSTRAINTS = """
    SELECT conname FROM pg_constraint WHERE connamespace = current_schema()::regnamespace AND convalidated
"""
_TRANSFERS = """
    SELECT t.*, l.height, l.hash FROM transfers AS t LEFT JOIN links AS l ON l.sequence = t.sequence
    ORDER BY l.height NULLS LAST, t.sequence
"""
_TRIGGERS = """
    SELECT c.relname, array_agg(t.tgname) AS names FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
    WHERE c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
    GROUP BY c.relname
"""
_RIGHTS = """
    SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = current_schema()::regnamespace
        AND c.relname IN ('transfers', 'batches', 'links', 'heads') AND (c.relacl IS NULL OR EXISTS (
            SELECT FROM aclexplode(c.relacl) AS a WHERE a.privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')))
"""
_FLOATING = """
    SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = current_schema()
        AND (table_name, column_name) IN (('transfers', 'amount'), ('accounts', 'balance'), ('bookings', 'escrowed'),
            ('bookings', 'refunded'), ('bookings', 'fee'), ('bookings', 'burned')) AND data_type <> 'bigint'
"""
_UNTOLD = "SELECT id, event FROM transfers WHERE event NOT IN (SELECT message_id FROM outbox) LIMIT 4"
_MISWEIGHED = """
    SELECT r.epoch, r.node, r.weight, coalesce(p.mean, 0) AS mean FROM rewards AS r LEFT JOIN (
        SELECT epoch, node, div(sum(weight), count(*)) AS mean FROM probes GROUP BY epoch, node
    ) AS p ON p.epoch = r.epoch AND p.node = r.node WHERE r.weight <> coalesce(p.mean, 0) LIMIT 4
"""
_POOLS = "SELECT p.*, e.ended_at, e.usd_compute, e.usd_render FROM pools AS p JOIN epochs AS e ON e.number = p.epoch"


@dataclass(frozen=True)
class Check:
    name: str
    broken: int
    detail: str


@dataclass(frozen=True)
class Report:
    passed: bool
    transfers: int
    head: str
    checks: tuple[Check, ...]


async def audit(connection: "Connection") -> Report:
    """Needs a transaction that sees one snapshot (repeatable read) of the ledger's schema."""
    findings = Findings()
    accounts = await connection.fetch("SELECT id, asset, kind, balance FROM accounts")
    replay = Replay({row["id"]: row["asset"] for row in accounts}, findings)
    replay.hashes_at = {row["height"]: row["hash"] for row in await connection.fetch("SELECT * FROM heads")}
    async for row in connection.cursor(_TRANSFERS, prefetch=1000):
        replay.feed(row)
    await _check_links(connection, replay)
    _check_balances(accounts, replay)
    await _check_schema(connection, findings)
    await _check_bookings(connection, replay)
    await _check_epochs(connection, replay)
    for row in await connection.fetch(_UNTOLD):
        findings.add("I10", f"{row['id']}: no event {row['event']}")
    checks = tuple(
        Check(f"{name} {text}", findings.counts[name], "; ".join(findings.examples[name]) or "holds")
        for name, text in CHECKS.items()
    )
    head = replay.head.hex() if replay.transfers else ""
    return Report(not any(check.broken for check in checks), replay.transfers, head, checks)


async def _check_links(connection: "Connection", replay: Replay) -> None:
    links, newest = await connection.fetchrow("SELECT count(*), coalesce(max(height), 0) FROM links")  # type: ignore[misc]
    if (links, newest) != (replay.transfers, replay.transfers):
        replay.findings.add("I7", f"{links} links up to height {newest} for {replay.transfers} transfers")
    ids = await connection.fetchval("SELECT count(DISTINCT id) FROM transfers")
    if ids != replay.transfers:
        replay.findings.add("I4", f"{replay.transfers} transfers have {ids} ids")
    for height in replay.hashes_at:
        if height > replay.transfers:
            replay.findings.add("I7", f"a head was published at height {height}, which is not there any more")


def _check_balances(accounts: list[Any], replay: Replay) -> None:
    sums: dict[str, int] = {}
    for row in accounts:
        stored, replayed = row["balance"], replay.balances.get(row["id"], 0)
        sums[row["asset"]] = sums.get(row["asset"], 0) + stored
        if stored != replayed:
            replay.findings.add("I3", f"{row['id']} holds {stored}, its transfers come to {replayed}")
        if stored < 0 and row["kind"] not in MAY_BE_NEGATIVE:
            replay.findings.add("I2", f"{row['id']} holds {stored}")
        if abs(stored) >= 10**18:
            replay.findings.add("I9", f"{row['id']} holds {stored}")
    for asset, total in sums.items():
        if total:
            replay.findings.add("I1", f"all {asset} accounts together hold {total}")
    for account in replay.balances.keys() - {row["id"] for row in accounts}:
        replay.findings.add("I3", f"transfers name {account}, which is no account")


async def _check_schema(connection: "Connection", findings: Findings) -> None:
    active = {row["relname"]: set(row["names"]) for row in await connection.fetch(_TRIGGERS)}
    for table, names in GUARDED.items():
        for name in sorted(names - active.get(table, set())):
            findings.add("I5", f"the trigger {name} on {table} is off")
    for name in sorted(CONSTRAINTS - {row["conname"] for row in await connection.fetch(_CONSTRAINTS)}):
        findings.add("I5", f"the constraint {name} is gone")
    for row in await connection.fetch(_RIGHTS):
        findings.add("I5", f"{row['relname']} may be changed")
    for row in await connection.fetch(_FLOATING):
        findings.add("I9", f"{row[0]} is no bigint")


async def _check_bookings(connection: "Connection", replay: Replay) -> None:
    seen = set()
    for row in await connection.fetch("SELECT * FROM bookings"):
        key = (row["partner"], row["booking"])
        seen.add(key)
        sums = replay.escrow.get(key, {})
        for part in ("escrowed", "fee", "burned", "refunded"):
            if row[part] != sums.get(part, 0):
                replay.findings.add("I6", f"{'/'.join(key)}: {part} {row[part]}, transfers {sums.get(part, 0)}")
        remaining = sums.get("escrowed", 0) - sum(sums.get(part, 0) for part in ("fee", "burned", "refunded"))
        if remaining < 0 or (row["ended_at"] is not None and remaining):
            replay.findings.add("I6", f"{'/'.join(key)}: {remaining} remain, ended at {row['ended_at']}")
    for key in replay.escrow.keys() - seen:
        replay.findings.add("I6", f"{'/'.join(key)}: escrow of no booking")
    charges = {
        (r["partner"], r["booking"], r["lease"]): r for r in await connection.fetch("SELECT * FROM lease_charges")
    }
    for lease in charges.keys() | replay.charged.keys():
        parts = {name: amount for name, amount in replay.charged.get(lease, {}).items() if name != "refunded"}
        charge = charges.get(lease)
        told = {name: charge[name] for name in ("fee", "burned", "coupons", "render") if charge[name]} if charge else {}
        if parts != told:
            replay.findings.add("I6", f"{'/'.join(lease)}: charged {told}, transfers {parts}")
        elif charge and charge["cost"] != charge["hourly"] * charge["billed_ms"] // 3_600_000:
            replay.findings.add("I6", f"{'/'.join(lease)}: {charge['cost']} is not what its time costs")


async def _check_epochs(connection: "Connection", replay: Replay) -> None:
    rewards: dict[int, list[Any]] = {}
    for row in await connection.fetch(_MISWEIGHED):
        replay.findings.add("I8", f"epoch {row['epoch']}: {row['node']} weighs {row['weight']}, not {row['mean']}")
    for row in await connection.fetch("SELECT * FROM rewards"):
        rewards.setdefault(row["epoch"], []).append(row)
    for pool in await connection.fetch(_POOLS):
        where = f"the {pool['name']} pool of epoch {pool['epoch']}"
        sums = replay.pools.get((pool["epoch"], pool["name"]), {})
        minted, carried_in, paid, carried_out = (
            sums.get(part, 0) for part in ("minted", "carried_in", "paid", "carried_out")
        )
        if minted > pool["emission"] or paid + carried_out > minted + carried_in:
            replay.findings.add("I8", f"{where} emits {pool['emission']}, minted {minted}, paid {paid}")
        if any(pool[part] != sums.get(part, 0) for part in ("minted", "carried_in", "paid", "carried_out")):
            replay.findings.add("I8", f"{where} does not agree with its transfers")
        if pool["ended_at"] is not None:
            if minted + carried_in != paid + carried_out:
                replay.findings.add("I8", f"{where} was closed with something left")
            _check_rewards(pool, minted, carried_in, rewards.get(pool["epoch"], []), replay)


def _check_rewards(pool: Any, minted: int, carried_in: int, rewards: list[Any], replay: Replay) -> None:
    """RNP-004, by fractions: everyone's share is within a unit of the exact one, and all of them sum to the pool."""
    figure, name = ("coupons", "job_reward") if pool["name"] == "job" else ("weight", "availability_reward")
    where = f"epoch {pool['epoch']}, {name}"
    total = sum(int(row[figure]) for row in rewards)
    if pool["name"] == "job":
        dollars = pool["usd_compute"] + pool["usd_render"]
        if total != pool["usd_compute"]:
            replay.findings.add("I8", f"{where}: {total} coupons for {pool['usd_compute']} micro-USD burned")
        if dollars and minted != pool["emission"] * pool["usd_compute"] // dollars:
            replay.findings.add("I8", f"{where}: C_t is not E_t × U_compute / (U_compute + U_render)")
    if total and sum(row[name] for row in rewards) != minted + carried_in:
        replay.findings.add("I8", f"{where}: the rewards are not the whole pool")
    for row in rewards:
        exact = Fraction((minted + carried_in) * int(row[figure]), total) if total else Fraction(0)
        if abs(exact - row[name]) >= 1:
            replay.findings.add("I8", f"{where}: {row['node']} was paid {row[name]}, earned {float(exact)}")
        if pool["name"] == "job" and replay.balances.get(f"coupon:{row['node']}/{pool['epoch']}", 0) != row["coupons"]:
            replay.findings.add("I8", f"{where}: {row['node']} does not hold {row['coupons']} coupons")
        if replay.paid.get((pool["epoch"], pool["name"], row["node"]), 0) != row[name]:
            replay.findings.add("I8", f"{where}: {row['node']} was told {row[name]}, its transfers differ")


async def _print(url: str) -> int:
    connection = await asyncpg.connect(url)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        report = await audit(connection)
    await connection.close()
    print(f"{report.transfers} transfers, head {report.head or 'none'}")
    for check in report.checks:
        print(f"{'BROKEN' if check.broken else 'holds '}  {check.name}{': ' + check.detail if check.broken else ''}")
    return 0 if report.passed else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Say which database to audit: python -m services.ledger.audit postgresql://…")
    sys.exit(asyncio.run(_print(sys.argv[1])))
