"""Bad releases, jobs, deposits, registrations and questions on the bus, and whatever is somebody else's to say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout

from libs import nkey
from libs.bus import ask
from libs.clock import now_ms
from libs.ids import new_id
from tests.e2e.bad_bodies import order
from tests.e2e.bus import Bus
from tests.e2e.network import POOR, LiveNetwork
from wire.access import BanIdentity, RegisterPartner
from wire.booking import BookingEnded, EscrowFunded, GetBooking, ListBookings, ReleaseBooking
from wire.job import Artefact, CancelJob, SubmitJob
from wire.ledger import CloseEpoch, Deposit, DepositBooked, GetAudit, GetBalance, GetReceipt, GetStatement
from wire.message import Message, Query, encode
from wire.names import JETSTREAM_DOMAIN
from wire.node import GetFleet, Heartbeat, NodeJoined
from wire.quote import GetQuote, Refused
from wire.reputation import GetReputation
from wire.values import Money, Reason, Refusal, usd

A_NODE = "U" + "A" * 55
FILES = Artefact(digest="0" * 64, size=10)


def fresh(prefix: str) -> str:
    return new_id(prefix)


def submit(booking_id: str, partner: str = "acme", **changes: Any) -> SubmitJob:
    made = {"job_id": fresh("job"), "entrypoint": ("python", "main.py"), "files": FILES, **changes}
    return SubmitJob(id=fresh("msg"), at=now_ms(), partner=partner, booking_id=booking_id, **made)


async def refused_booking(bus: Bus) -> str:
    """A booking of acme's that is over."""
    booking_id = fresh("bkg")
    await bus.publish("acme", order(booking_id, fresh("msg")))
    assert (await bus.refusal(booking_id)).reason is Reason.no_capacity
    return booking_id


@pytest.mark.parametrize("whose", ["nobody's", "another partner's"])
async def test_what_is_not_ones_own_can_be_neither_released_nor_used(whose: str, bus: Bus) -> None:
    """Who asks with another's id learns no more than who asks with one that never was."""
    booking_id = fresh("bkg") if whose == "nobody's" else await refused_booking(bus)
    release = ReleaseBooking(id=fresh("msg"), partner=POOR, booking_id=booking_id)
    job = submit(booking_id, POOR)
    cancel = CancelJob(id=fresh("msg"), partner=POOR, booking_id=booking_id, job_id=fresh("job"))
    await bus.publish(POOR, release)
    assert (await bus.refusal(booking_id)).reason is Reason.unknown_booking
    for command in (job, cancel):
        await bus.publish(POOR, command)
        assert (await bus.refusal(command.job_id, within=booking_id)).reason is Reason.unknown_booking
    for query in (
        GetBooking(id="q", partner=POOR, booking_id=booking_id),
        GetReceipt(id="q", identity=POOR, booking_id=booking_id),
    ):
        assert (await answer(bus, POOR, query.subject(), encode(query))).reason is Reason.unknown_booking


async def test_what_is_over_can_be_neither_released_nor_used(bus: Bus) -> None:
    booking_id = await refused_booking(bus)
    for _ in range(2):
        await bus.publish("acme", ReleaseBooking(id=fresh("msg"), partner="acme", booking_id=booking_id))
        assert (await bus.refusal(booking_id)).reason is Reason.already_ended
    job = submit(booking_id)
    await bus.publish("acme", job)
    assert (await bus.refusal(job.job_id, within=booking_id)).reason is Reason.already_ended


async def test_a_cluster_takes_no_job_before_it_is_ready(bus: Bus) -> None:
    """Order, job and release are on their way together; the cluster would need seconds to start."""
    booking_id = fresh("bkg")
    job = submit(booking_id)
    await bus.publish("acme", order(booking_id, fresh("msg"), request={"nodes": 1}))
    await bus.publish("acme", job)
    await bus.publish("acme", ReleaseBooking(id=fresh("msg"), partner="acme", booking_id=booking_id))
    assert (await bus.refusal(job.job_id, within=booking_id)).reason is Reason.not_ready
    await bus.heard_of(booking_id, BookingEnded)


BAD_JOBS: dict[str, tuple[str, Any]] = {
    "no digest": ("files.digest", ""),
    "a path as digest": ("files.digest", "../../etc/passwd"),
    "a digest in capitals": ("files.digest", "A" * 64),
    "minus one byte": ("files.size", -1),
    "a file too large": ("files.size", 96 * 1024 * 1024 + 1),
    "nothing to run": ("entrypoint", []),
    "an empty word to run": ("entrypoint", [""]),
    "a text to run": ("entrypoint", "python main.py"),
    "65 words to run": ("entrypoint", ["x"] * 65),
    "a variable in small letters": ("environment", {"path": "/"}),
    "a variable with a newline": ("environment", {"A\n": "1"}),
    "a number as variable": ("environment", {"A": 1}),
    "a null character to run": ("entrypoint", ["python", "a\0b"]),
    "a variable with a null character": ("environment", {"A": "a\0b"}),
    "a job id with a dot": ("job_id", "a.b"),
}


@pytest.mark.parametrize("name", BAD_JOBS)
async def test_a_bad_job_gets_one_refusal(name: str, bus: Bus) -> None:
    job = submit(fresh("bkg"))
    path, value = BAD_JOBS[name]
    body = msgspec.json.decode(encode(job))
    *way, last = path.split(".")
    place = body
    for step in way:
        place = place[step]
    place[last] = value
    await bus.publish_raw("acme", job.subject(), msgspec.json.encode(body))
    assert (await bus.refusal(job.job_id)).reason is Reason.malformed


def deposit(**changes: Any) -> Deposit:
    made = {"operator": "operator", "partner": "acme", "amount": usd(1), "reference": fresh("pay"), **changes}
    return Deposit(id=fresh("msg"), at=now_ms(), **made)


BAD_DEPOSITS: dict[str, tuple[dict[str, Any], Reason]] = {
    "nothing": ({"amount": usd(0)}, Reason.out_of_range),
    "less than nothing": ({"amount": Money(-1)}, Reason.malformed),
    "RENDER": ({"amount": Money(5, "RENDER")}, Reason.malformed),
    "coupons": ({"amount": Money(5, "COUPON")}, Reason.malformed),
    "all there can be": ({"amount": usd(10**18 - 1)}, Reason.out_of_range),
    "more than there can be": ({"amount": usd(10**18)}, Reason.malformed),
    "a partner in capitals": ({"partner": "ACME"}, Reason.malformed),
    "a partner with a newline": ({"partner": "acme\n"}, Reason.malformed),
    "no reference": ({"reference": ""}, Reason.malformed),
}


@pytest.mark.parametrize("name", BAD_DEPOSITS)
async def test_a_bad_deposit_books_nothing(name: str, bus: Bus) -> None:
    changes, reason = BAD_DEPOSITS[name]
    command = deposit(**changes)
    await bus.publish("operator", command)
    assert (await bus.refusal(command.id)).reason is reason


async def test_a_payment_is_booked_once(bus: Bus) -> None:
    """Told again it is confirmed again; told otherwise, it is refused."""
    payment = deposit(partner=fresh("p"), amount=usd(10_000))
    for partner, refused in ((payment.partner, False), (payment.partner, False), ("acme", True)):
        again = msgspec.structs.replace(payment, id=fresh("msg"), partner=partner)
        await bus.publish("operator", again)
        if refused:
            assert (await bus.refusal(again.id)).reason is Reason.id_reused
    booked = [message for message in bus.about(payment.partner) if isinstance(message, DepositBooked)]
    assert {(one.amount, one.wallet) for one in booked} == {(usd(10_000), usd(10_000))}


async def test_a_name_and_a_key_are_given_once(bus: Bus, live_network: LiveNetwork) -> None:
    acme = nkey.load(live_network.seed_file("acme")).public_key
    for partner, key, reason in (
        ("acme", A_NODE, Reason.already_registered),
        ("nova", acme, Reason.already_registered),
        ("ledger", A_NODE, Reason.not_allowed),
        ("operator", A_NODE, Reason.not_allowed),
    ):
        command = RegisterPartner(id=fresh("msg"), at=1, operator="operator", partner=partner, public_key=key)
        await bus.publish("operator", command)
        assert (await bus.refusal(command.id)).reason is reason
    for key in ("U", A_NODE + "\n", "S" + A_NODE[1:]):
        command = RegisterPartner(id=fresh("msg"), at=1, operator="operator", partner="nova", public_key=key)
        await bus.publish("operator", command)
        assert (await bus.refusal(command.id)).reason is Reason.malformed


QUERIES: tuple[tuple[str, Query], ...] = (
    ("acme", GetQuote(partner="acme", request=order("any", "m").request)),
    ("acme", GetBooking(partner="acme", booking_id="any")),
    ("acme", ListBookings(partner="acme")),
    ("acme", GetFleet(identity="acme")),
    ("acme", GetBalance(identity="acme")),
    ("acme", GetReceipt(identity="acme", booking_id="any")),
    ("acme", GetStatement(identity="acme", node_id=A_NODE)),
    ("acme", GetReputation(identity="acme", node_id=A_NODE)),
    ("operator", GetAudit(identity="operator")),
)
NO_QUESTIONS: dict[str, bytes] = {
    "nothing at all": b"",
    "not JSON": b"\xff\x00",
    "lists in lists": b"[" * 100_000,
    "no id": b'{"type": "@"}',
    "somebody else": b'{"type": "@", "id": "1", "partner": "umbra", "identity": "umbra"}',
}


@pytest.mark.parametrize("body", NO_QUESTIONS)
@pytest.mark.parametrize(("asker", "query"), QUERIES, ids=lambda one: type(one).__name__)
async def test_what_is_no_question_is_answered_with_a_reason(asker: str, query: Query, body: str, bus: Bus) -> None:
    spoiled = NO_QUESTIONS[body].replace(b"@", type(query).__name__.encode())
    assert (await answer(bus, asker, query.subject(), spoiled)).reason is Reason.malformed


async def answer(bus: Bus, asker: str, subject: str, body: bytes) -> Refusal:
    reply = await bus.clients[asker].request(subject, body, timeout=10.0)
    assert not (reply.headers or {}), f"{subject} answers {reply.headers} in place of a refusal"
    return msgspec.json.decode(reply.data, type=Refused).refusal


async def test_nobody_speaks_for_another(bus: Bus) -> None:
    """Neither the words of others nor words that do not exist get past the server."""
    theirs = order(fresh("bkg"), fresh("msg"), partner=POOR)
    own = order(fresh("bkg"), fresh("msg"))
    words: list[tuple[str, Message]] = [
        ("acme", theirs),
        ("acme", ReleaseBooking(id=fresh("msg"), partner=POOR, booking_id=theirs.booking_id)),
        ("acme", GetBooking(id="q", partner=POOR, booking_id=theirs.booking_id)),
        ("acme", deposit(partner="acme", amount=usd(10**9))),
        ("acme", deposit(operator="acme", partner="acme", amount=usd(10**9))),
        ("acme", CloseEpoch(id=fresh("msg"), operator="acme")),
        ("acme", EscrowFunded(id="e", partner="acme", booking_id=own.booking_id, amount=usd(1), wallet_left=usd(1))),
        ("operator", own),
        (POOR, BanIdentity(id=fresh("msg"), operator="operator", public_key=A_NODE, reason=Reason.not_allowed)),
    ]
    said = [silence(bus, sender, message.subject(), encode(message)) for sender, message in words]
    unknown = own.subject().removesuffix(own.verb()) + "explode"
    await asyncio.gather(*said, silence(bus, "acme", unknown, encode(own)))
    for message in (own, theirs):
        assert not bus.about(message.booking_id)


async def silence(bus: Bus, sender: str, subject: str, body: bytes) -> None:
    """The server does not even pass it on: there is no answer at all."""
    with pytest.raises((NatsTimeout, NoRespondersError)):
        await bus.clients[sender].request(subject, body, timeout=1.5)


async def test_a_node_that_speaks_nonsense_is_not_admitted(bus: Bus, live_network: LiveNetwork, tmp_path: Path) -> None:
    key = nkey.make(tmp_path / "node.seed").public_key
    node = await ask.connect(live_network.url, name=key, seed_file=str(tmp_path / "node.seed"), patient=False)
    try:
        subject = NodeJoined.pattern(node_id=key)
        spec = b'"spec": {"name": "x\\u0007", "gpus": -1, "memory_mb": NaN}'
        for body in (b"", b"\xff", b'{"type": "NodeJoined", "id": "1", "node_id": "%s", %s}' % (key.encode(), spec)):
            await node.jetstream(domain=JETSTREAM_DOMAIN).publish(subject, body)
            assert (await bus.refusal(key)).reason is Reason.malformed
        await node.publish(Heartbeat.pattern(node_id=key), b"\x00\xff" * 1000)
        await node.flush()
    finally:
        await node.close()
