"""Who is let in, and what an identity finds when it is in."""

import asyncio
import base64
import json
import secrets
import time

import pytest
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from libs import nats_keys, nkey
from libs.ids import new_id
from libs.local.outsiders import SUBSCRIPTIONS_MAX
from libs.nats_keys import Kind
from libs.nkey import Nkey
from libs.objects import bucket
from services.gate import jwt
from services.gate.doorkeeper import QUESTIONS
from services.gate.provision import ABANDONED_SECONDS
from services.gate.request import SERVER_KEY_HEADER
from tests.gate.roles import all_about
from tests.gate.town import OPERATOR, Town, Visitor, knock, refused
from wire.access import PartnerRegistered, RegisterPartner
from wire.booking import BookingPlaced, PlaceBooking
from wire.job import RunJob, StopJob
from wire.ledger import Deposit
from wire.message import decode, encode
from wire.names import (
    JETSTREAM_DOMAIN,
    NODE_COMMANDS_STREAM,
    bucket_of_node,
    bucket_of_partner,
    inbox_prefix,
    node_consumer,
)
from wire.node import Heartbeat, NodeJoined
from wire.probe import Probe


async def registered(town: Town, partner: str) -> Nkey:
    """A key that the operator gave a name, through the front door."""
    key = nkey.new()
    operator = await town.visit(town.operator, OPERATOR)
    answer = await operator.client.subscribe(PartnerRegistered.pattern(partner=partner))
    order = RegisterPartner(id=new_id("reg"), at=1, operator=OPERATOR, partner=partner, public_key=key.public_key)
    await operator.client.jetstream().publish(order.subject(), encode(order))
    message = await answer.next_msg(timeout=10)
    assert decode(PartnerRegistered, message.subject, message.data).public_key == key.public_key
    return key


async def test_a_node_says_what_it_says_and_nothing_of_another(open_town: Town) -> None:
    key, other = nkey.new(), nkey.new().public_key
    node = await open_town.visit(key)
    assert await node.may_publish(Heartbeat.pattern(node_id=key.public_key))
    assert await node.may_publish(NodeJoined.pattern(node_id=key.public_key))
    assert not await node.may_publish(Heartbeat.pattern(node_id=other))
    assert not await node.may_publish(NodeJoined.pattern(node_id=other))
    assert not await node.may_publish(RunJob.pattern(node_id=key.public_key))
    assert await node.may_subscribe(f"{inbox_prefix(key.public_key)}.>")
    assert not await node.may_subscribe(f"{inbox_prefix(other)}.>")
    assert not await node.may_subscribe("_INBOX.>")
    assert not await node.may_subscribe(">")
    assert not await node.may_subscribe(Probe.pattern(node_id=other))
    assert not await node.may_subscribe(RunJob.pattern(node_id=other))


async def test_a_node_takes_its_own_commands_and_no_others(open_town: Town) -> None:
    key, other = nkey.new(), nkey.new()
    node, _ = await open_town.visit(key), await open_town.visit(other)
    inside = (await open_town.inside()).jetstream()
    await inside.publish(StopJob.pattern(node_id=key.public_key), b"mine")
    await inside.publish(StopJob.pattern(node_id=other.public_key), b"not mine")
    jetstream = node.client.jetstream(domain=JETSTREAM_DOMAIN, timeout=1)
    mine = await jetstream.pull_subscribe_bind(node_consumer(key.public_key), NODE_COMMANDS_STREAM)
    taken = await mine.fetch(10, timeout=1)
    assert [message.data for message in taken] == [b"mine"]
    await taken[0].in_progress()
    await taken[0].ack_sync()
    theirs = await jetstream.pull_subscribe_bind(node_consumer(other.public_key), NODE_COMMANDS_STREAM)
    with pytest.raises(TimeoutError):
        await theirs.fetch(1, timeout=0.5)
    assert any("permissions violation" in complaint for complaint in node.complaints)
    assert (await inside.consumer_info(NODE_COMMANDS_STREAM, node_consumer(key.public_key))).num_ack_pending == 0
    assert (await inside.consumer_info(NODE_COMMANDS_STREAM, node_consumer(other.public_key))).num_pending == 1


async def test_commands_outlive_the_consumer_of_a_node_that_was_away(open_town: Town) -> None:
    key = nkey.new()
    node = await open_town.visit(key)
    await node.client.close()
    inside = (await open_town.inside()).jetstream()
    await inside.publish(StopJob.pattern(node_id=key.public_key), b"kept")
    config = (await inside.consumer_info(NODE_COMMANDS_STREAM, node_consumer(key.public_key))).config
    assert config.inactive_threshold == ABANDONED_SECONDS
    await inside.delete_consumer(NODE_COMMANDS_STREAM, node_consumer(key.public_key))
    await inside.add_consumer(NODE_COMMANDS_STREAM, config)
    back = await open_town.visit(key)
    jetstream = back.client.jetstream(domain=JETSTREAM_DOMAIN)
    mine = await jetstream.pull_subscribe_bind(node_consumer(key.public_key), NODE_COMMANDS_STREAM)
    assert [message.data for message in await mine.fetch(1, timeout=2)] == [b"kept"]


async def test_a_node_answers_a_probe_once(open_town: Town) -> None:
    key = nkey.new()
    node, inside = await open_town.visit(key), await open_town.inside()
    subject = Probe.pattern(node_id=key.public_key)
    with pytest.raises(NoRespondersError):
        await inside.request(subject, b"?", timeout=2)
    probes = await node.client.subscribe(subject)
    await node.client.flush()
    await node.client.flush()
    # The server tells the other account of a subscription a moment after it has it.
    await asyncio.sleep(0.5)
    asked = asyncio.create_task(inside.request(subject, b"?", timeout=5))
    probe = await probes.next_msg(timeout=5)
    await probe.respond(b"answer")
    assert (await asked).data == b"answer"
    await probe.respond(b"again")
    for _ in range(100):
        await node.client.flush()
        if node.complaints:
            break
        await asyncio.sleep(0.02)
    assert any("permissions violation" in complaint for complaint in node.complaints)


async def _reads(visitor: Visitor, own: str, theirs: str) -> None:
    """Writes and reads its own bucket, and sees nothing of the other."""
    jetstream = visitor.client.jetstream(domain=JETSTREAM_DOMAIN, timeout=1)
    store = await jetstream.object_store(own)
    info = await store.put("file", b"x" * 300_000)
    assert (await store.get_info("file")).size == 300_000 and info.chunks == 3
    read, sequence = b"", 0
    for _ in range(3):
        message = await jetstream.get_msg(f"OBJ_{own}", sequence + 1, f"$O.{own}.C.{info.nuid}", next=True)
        assert message.data is not None and message.seq is not None
        read, sequence = read + message.data, message.seq
    assert read == b"x" * 300_000
    with pytest.raises((NatsError, TimeoutError)):
        await jetstream.object_store(theirs)
    with pytest.raises((NatsError, TimeoutError)):
        await jetstream.get_msg(f"OBJ_{theirs}", 1)
    assert not await visitor.may_publish(f"$O.{theirs}.C.x")
    assert not await visitor.may_publish(f"$O.{theirs}.M.x")
    for visible in ("$JS.API", f"$JS.{JETSTREAM_DOMAIN}.API"):
        for call in ("STREAM.DELETE", "STREAM.PURGE", "DIRECT.GET", "CONSUMER.CREATE", "STREAM.MSG.DELETE"):
            assert not await visitor.may_publish(f"{visible}.{call}.OBJ_{own}")
    assert not await visitor.may_subscribe(f"$O.{theirs}.>")


async def test_a_bucket_is_its_owners(open_town: Town) -> None:
    key, node_key = await registered(open_town, "acme"), nkey.new()
    inside = (await open_town.inside()).jetstream()
    await bucket(inside, bucket_of_node(node_key.public_key))
    partner, node = await open_town.visit(key, "acme"), await open_town.visit(node_key)
    await _reads(partner, bucket_of_partner("acme"), bucket_of_node(node_key.public_key))
    await _reads(node, bucket_of_node(node_key.public_key), bucket_of_partner("acme"))


async def test_a_partner_is_only_itself(open_town: Town) -> None:
    acme, rival = await registered(open_town, "acme"), await registered(open_town, "rival")
    partner = await open_town.visit(acme, "acme")
    await open_town.visit(rival, "rival")
    assert not await partner.may_subscribe(f"{inbox_prefix('rival')}.>")
    assert not await partner.may_subscribe(all_about(BookingPlaced, "rival"))
    assert not await partner.may_subscribe(all_about(BookingPlaced, ""))
    assert await partner.may_subscribe(all_about(BookingPlaced, "acme"))
    assert not await partner.may_publish(PlaceBooking.pattern(partner="rival", booking_id="b1"))
    assert not await partner.may_publish(Deposit.pattern(operator="acme"))
    assert await partner.may_publish(PlaceBooking.pattern(partner="acme", booking_id="b1"))


async def test_a_key_without_a_name_is_no_partner_and_no_operator(open_town: Town) -> None:
    assert await refused(open_town, nkey.new(), token="partner")
    assert await refused(open_town, nkey.new(), token="operator")
    assert await refused(open_town, nkey.new(), token="king")
    assert not await refused(open_town, nkey.new(), token="node")
    assert not await refused(open_town, open_town.operator, token="operator")
    assert await refused(open_town, open_town.operator, token="node")


PLAIN = {"verbose": False, "pedantic": False, "lang": "raw", "version": "1", "protocol": 1}


async def test_a_forged_signature_stays_outside(open_town: Town) -> None:
    """The server itself does not notice: it asks before it looks."""
    victim, thief = nkey.new(), nkey.new()
    named = {**PLAIN, "nkey": victim.public_key}
    assert (await knock(open_town, named, victim)).startswith(b"PONG")
    assert b"Authorization Violation" in await knock(open_town, named, thief)
    for signature in (victim.sign(b"another nonce"), b"x" * 64, b"x" * 65, b""):
        forged = {**named, "sig": base64.b64encode(signature).decode()}
        assert b"Authorization Violation" in await knock(open_town, forged)
    assert b"Authorization Violation" in await knock(open_town, {**named, "sig": "no base64 at all \u2603"})


async def test_a_signature_of_yesterday_stays_outside(open_town: Town) -> None:
    """The nonce is the connection's own."""
    key = nkey.new()
    reader, writer = await asyncio.open_connection("127.0.0.1", open_town.server.port)
    nonce = json.loads((await reader.readline()).removeprefix(b"INFO "))["nonce"]
    writer.close()
    old = {**PLAIN, "nkey": key.public_key, "sig": base64.b64encode(key.sign(nonce.encode())).decode()}
    assert b"Authorization Violation" in await knock(open_town, old)


async def test_garbage_stays_outside_and_the_gate_stands(open_town: Town) -> None:
    key = nkey.new()
    lower, swapped = key.public_key.lower(), key.public_key[:-1] + ("A" if key.public_key[-1] != "A" else "B")
    keys: list[object] = ["", "U", lower, swapped, "A" * 56, "U" * 4000, "\x00" * 56, "U" + "☃" * 55, key.seed]
    for name in keys:
        assert b"-ERR" in await knock(open_town, {**PLAIN, "nkey": name}, key)
    for extra in ({"jwt": "eyJhbGciOiJub25lIn0.e30."}, {"user": "acme", "pass": "x"}, {"auth_token": "partner"}, {}):
        assert b"Authorization Violation" in await knock(open_town, {**PLAIN, **extra})
    for raw in (b"{}", b"[]", b"nonsense", b'{"nkey":5}', b'{"nkey":"' + b"U" * 5000 + b'"}'):
        assert b"PONG" not in await knock(open_town, raw)
    assert not await refused(open_town, nkey.new())


async def test_long_words_change_nothing(open_town: Town) -> None:
    key = nkey.new()
    wordy = {**PLAIN, "nkey": key.public_key, "name": "n" * 900, "user": "ops", "lang": "l" * 900}
    assert (await knock(open_town, wordy, key)).startswith(b"PONG")
    assert b"Authorization Violation" in await knock(open_town, {**wordy, "auth_token": "t" * 300}, key)


async def test_questions_that_the_server_did_not_ask_get_no_answer(open_town: Town) -> None:
    """From inside the callout account, where nobody but the gate lives: what if somebody did?"""
    spy = await open_town.visit(nkey.from_seed((open_town.directory / "callout.seed").read_text()), "callout")
    asked = await spy.client.subscribe(QUESTIONS)
    answers = await spy.client.subscribe("spy.>")
    await spy.client.flush()
    await open_town.visit(nkey.new())
    question = await asked.next_msg(timeout=2)
    assert question.headers is not None
    curve = nats_keys.new_seed(Kind.CURVE, secrets.token_bytes(32))
    gate = nats_keys.public_of((open_town.directory / "curve.seed").read_text(), Kind.CURVE)
    mine = {SERVER_KEY_HEADER: nats_keys.public_of(curve, Kind.CURVE)}
    attempts: list[tuple[bytes, dict[str, str]]] = [
        (question.data, dict(question.headers)),  # a replay
        (question.data, mine),
        (question.data, {}),
        (question.data[:-1], dict(question.headers)),
        (b"", dict(question.headers)),
        (b"eyJhbGciOiJub25lIn0.e30.", mine),
        (nats_keys.seal(curve, gate, b"eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.e30."), mine),
        (nats_keys.seal(curve, gate, forged_question(open_town)), mine),
        (nats_keys.seal(curve, gate, b"." * 100_000), mine),
    ]
    for number, (body, headers) in enumerate(attempts):
        await spy.client.publish(QUESTIONS, body, reply=f"spy.{number}", headers=headers or None)
    with pytest.raises(TimeoutError):
        await answers.next_msg(timeout=1)
    assert not await refused(open_town, nkey.new())


def forged_question(town: Town) -> bytes:
    """Right in all but this: the server that signed it is none."""
    seed, now = nats_keys.new_seed(Kind.SERVER, secrets.token_bytes(32)), int(time.time())
    server, user = nats_keys.public_of(seed, Kind.SERVER), nkey.new()
    issuer = nats_keys.public_of((town.directory / "issuer.seed").read_text(), Kind.ACCOUNT)
    claims = {
        "jti": "forged",
        "iss": server,
        "sub": issuer,
        "aud": "nats-authorization-request",
        "iat": now,
        "exp": now + 2,
        "nats": {
            "server_id": {"id": server},
            "user_nkey": nkey.new().public_key,
            "client_info": {"id": 1, "kind": "Client", "type": "nats", "nonce": "abc"},
            "connect_opts": {"nkey": user.public_key, "sig": base64.b64encode(user.sign(b"abc")).decode()},
            "type": "authorization_request",
            "version": 2,
        },
    }
    return jwt.encode(claims, seed, Kind.SERVER).encode()


async def test_a_connection_has_a_bounded_number_of_subscriptions(open_town: Town) -> None:
    """Its own: what one has opened takes nothing from another."""
    one, other = nkey.new(), nkey.new()
    greedy, modest = await open_town.visit(one), await open_town.visit(other)
    for number in range(SUBSCRIPTIONS_MAX):
        await greedy.client.subscribe(f"{inbox_prefix(one.public_key)}.{number}")
    assert await modest.may_subscribe(f"{inbox_prefix(other.public_key)}.x")
    assert not greedy.closed.is_set()
    await greedy.client.subscribe(f"{inbox_prefix(one.public_key)}.more")
    await asyncio.wait_for(greedy.closed.wait(), 5)
    assert await modest.may_subscribe(f"{inbox_prefix(other.public_key)}.y")
