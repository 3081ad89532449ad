"""What must hold when a drill is over; each breach is one sentence, and one word before it says of what kind it is."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from libs.bus.inbox import key_of
from tests.drills.evidence import Evidence
from tests.drills.network import SCHEMAS
from wire.booking import LeaseEnded, NodeReplaced, NodesHeld
from wire.job import JobExited
from wire.message import deduplication_id
from wire.node import RayNodeStarted, StartRayNode
from wire.streams import EVENTS

Check = Callable[[Evidence], AsyncIterator[str]]


async def bookings_are_over(found: Evidence) -> AsyncIterator[str]:
    for row in await found.rows("SELECT * FROM scheduler.bookings WHERE state NOT IN ('settled', 'refused')"):
        yield f"open: booking {row['booking_id']} is {row['state']}"
    for row in await found.rows("SELECT * FROM scheduler.leases WHERE state <> 'ended'"):
        yield f"open: lease {row['lease_id']} of {row['booking_id']} is {row['state']}"
    for row in await found.rows("SELECT * FROM scheduler.jobs WHERE state NOT IN ('finished', 'refused')"):
        yield f"open: job {row['job_id']} is {row['state']}"


async def money_is_conserved(found: Evidence) -> AsyncIterator[str]:
    for row in await found.rows("SELECT asset, sum(balance) AS left FROM ledger.accounts GROUP BY asset"):
        if row["left"]:
            yield f"money: the accounts in {row['asset']} add up to {row['left']}"
    for row in await found.rows("SELECT * FROM ledger.accounts WHERE kind = 'escrow' AND balance <> 0"):
        yield f"money: {row['balance']} are left in {row['id']}"
    unsettled = "SELECT * FROM ledger.bookings WHERE escrow = 'funded' AND (ended_at IS NULL OR remaining <> 0)"
    for row in await found.rows(unsettled):
        yield f"money: booking {row['booking']} was funded and has not been settled"
    refused = """
        SELECT booking_id FROM scheduler.bookings s JOIN ledger.bookings l
        ON (s.partner, s.booking_id) = (l.partner, l.booking)
        WHERE s.state = 'refused' AND l.escrowed <> l.refunded
    """
    for row in await found.rows(refused):
        yield f"money: the refused booking {row['booking_id']} was not refunded"
    unpaid = """
        SELECT s.lease_id FROM scheduler.leases s JOIN ledger.bookings b
        ON (s.partner, s.booking_id) = (b.partner, b.booking) AND b.escrow = 'funded'
        LEFT JOIN ledger.lease_charges c ON c.lease = s.lease_id
        WHERE s.started_at > 0 AND (s.ended_at - s.started_at) * (s.hourly->>'amount')::bigint >= 3600000
        AND c.lease IS NULL
    """
    for row in await found.rows(unpaid):
        yield f"money: the lease {row['lease_id']} ran and was not charged"


async def nothing_waits(found: Evidence) -> AsyncIterator[str]:
    for consumer in found.consumers:
        if consumer.waiting:
            yield f"waiting: {consumer.waiting} messages of {consumer.stream} for {consumer.name}"
    for schema in SCHEMAS:
        unsent = f"SELECT count(*) FROM {schema}.outbox WHERE stream_seq IS NULL AND at < $1"
        (row,) = await found.rows(unsent, found.horizon)
        if row[0]:
            yield f"waiting: {row[0]} messages in the outbox of {schema}"


async def nothing_is_lost(found: Evidence) -> AsyncIterator[str]:
    """Whatever was said is in the stream, and whoever reads that stream has had it."""
    kept = {event.deduplication for event in found.events}
    for schema in SCHEMAS:
        said = f"SELECT message_id, subject, body FROM {schema}.outbox WHERE stream = $1 AND at < $2"
        for row in await found.rows(said, EVENTS.name, found.horizon):
            if deduplication_id(row["message_id"], row["body"]) not in kept:
                yield f"lost: {row['message_id']} of {schema} is not in the stream"
    for consumer in found.consumers:
        if consumer.stream != EVENTS.name:
            continue
        had = {row["key"] for row in await found.rows(f"SELECT key FROM {consumer.name}.inbox")}
        for event in found.events:
            if consumer.hears(event.subject) and key_of(event.subject, event.content["id"]) not in had:
                yield f"lost: {consumer.name} never had {event.content['id']} ({event.verb})"


async def nothing_is_doubled(found: Evidence) -> AsyncIterator[str]:
    """Reputation's evidence has no key but the inbox: an event that is weighed twice shows here, and moves a score."""
    doubled = "SELECT node_id, cause_id, count(*) FROM reputation.evidence GROUP BY 1, 2 HAVING count(*) > 1"
    for row in await found.rows(doubled):
        yield f"doubled: {row['cause_id']} was weighed {row['count']} times for {row['node_id'][:8]}"
    begun: Counter[tuple[str, ...]] = Counter()
    for event in found.events:
        if event.again:
            continue
        content = event.content
        if event.verb == RayNodeStarted.verb() and content["type"] == RayNodeStarted.__name__:
            begun["started", content["lease_id"], str(content["generation"])] += 1
        elif event.verb == JobExited.verb() and content["type"] == JobExited.__name__:
            begun["exited", content["job_id"], str(content["attempt"])] += 1
    for what, count in begun.items():
        if count > 1:
            yield f"doubled: {' '.join(what)} happened {count} times"


async def ids_name_one_body(found: Evidence) -> AsyncIterator[str]:
    bodies: dict[tuple[str, str], set[bytes]] = defaultdict(set)
    for event in found.events:
        bodies[event.subject, event.content["id"]].add(event.body)
    for (subject, message_id), several in bodies.items():
        if len(several) > 1:
            yield f"reused: {message_id} on {subject} has {len(several)} bodies"


async def nothing_is_dead(found: Evidence) -> AsyncIterator[str]:
    for letter in found.dead:
        yield f"dead: {letter.subject}: {letter.body[:300]!r}"


async def nodes_are_leased_once(found: Evidence) -> AsyncIterator[str]:
    """In the order in which the scheduler said it: no lease of a node begins before its last one has ended."""
    held: dict[str, str] = {}
    fences: dict[str, int] = defaultdict(int)
    known: set[str] = set()
    for row in await found.rows(
        "SELECT subject, convert_from(body, 'UTF8') AS body FROM scheduler.outbox ORDER BY seq"
    ):
        for lease, ends in leases_in(row["body"]):
            node_id, lease_id, fence = lease["node_id"], lease["lease_id"], lease["fence"]
            if ends:
                if held.get(node_id) == lease_id:
                    del held[node_id]
            elif lease_id not in known:
                known.add(lease_id)
                if node_id in held:
                    yield f"twice: {node_id[:8]} has {held[node_id]} when {lease_id} begins"
                if fence <= fences[node_id]:
                    yield f"twice: the fence of {node_id[:8]} went from {fences[node_id]} to {fence}"
                held[node_id], fences[node_id] = lease_id, fence
    for node_id, lease_id in held.items():
        yield f"open: {lease_id} of {node_id[:8]} was never said to end"


def leases_in(body: bytes) -> list[tuple[dict[str, Any], bool]]:
    """The leases that a message of the scheduler begins, or, True, ends."""
    content = msgspec.json.decode(body)
    match content["type"]:
        case NodesHeld.__name__:
            return [(lease, False) for lease in content["leases"]]
        case NodeReplaced.__name__ | StartRayNode.__name__:
            return [(content["lease"], False)]
        case LeaseEnded.__name__:
            return [(content["lease"], True)]
    return []


def spools_are_empty(directory: Path) -> list[str]:
    """What nodes had to say has been said."""
    left = []
    for path in sorted(directory.glob("*/spool.sqlite")):
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        (count,) = database.execute("SELECT count(*) FROM outgoing").fetchone()
        database.close()
        if count:
            left.append(f"waiting: {count} messages of node {path.parent.name}")
    return left


CHECKS: tuple[Check, ...] = (
    bookings_are_over,
    money_is_conserved,
    nodes_are_leased_once,
    nothing_is_doubled,
    ids_name_one_body,
    nothing_is_dead,
    nothing_waits,
    nothing_is_lost,
)


async def breaches(found: Evidence) -> list[str]:
    return [breach for check in CHECKS for breach in [one async for one in check(found)]]
