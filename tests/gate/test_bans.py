"""Who is put out: the banned at once and for good, and the older of two connections of one node."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from nats.js.errors import NotFoundError

from libs import nkey
from libs.ids import new_id
from libs.nkey import Nkey
from services.gate.settings import Settings
from tests.gate.conftest import gate
from tests.gate.town import OPERATOR, Town, Visitor, door_open, refused
from wire.access import BanIdentity, IdentityBanned, PartnerRefused, PartnerRegistered, RegisterPartner
from wire.booking import PlaceBooking
from wire.message import Command, Message, decode, encode
from wire.names import bucket_of_partner
from wire.values import Reason

BAN_SECONDS = 0.05


class Operator:
    """Orders, and what the gate said to them."""

    def __init__(self, visitor: Visitor) -> None:
        self.client = visitor.client

    async def order(self, command: Command, answer: type[Message]) -> Message:
        heard = await self.client.subscribe(answer.pattern())
        await self.client.flush()
        await self.client.jetstream().publish(command.subject(), encode(command))
        while True:
            message = await heard.next_msg(timeout=10)
            said = decode(answer, message.subject, message.data)
            if command.id in said.id:
                await heard.unsubscribe()
                return said

    async def register(self, partner: str, key: Nkey, answer: type[Message] = PartnerRegistered) -> Message:
        return await self.order(
            RegisterPartner(id=new_id("reg"), at=1, operator=OPERATOR, partner=partner, public_key=key.public_key),
            answer,
        )

    async def ban(self, key: Nkey, reason: Reason = Reason.wrong_answer) -> Message:
        return await self.order(
            BanIdentity(id=new_id("ban"), at=1, operator=OPERATOR, public_key=key.public_key, reason=reason),
            IdentityBanned,
        )


async def operator(town: Town) -> Operator:
    return Operator(await town.visit(town.operator, OPERATOR))


async def test_a_ban_ends_the_connection_at_once_and_shuts_the_door(open_town: Town) -> None:
    ops, inside = await operator(open_town), await open_town.inside()
    delays = []
    for _ in range(10):
        key = nkey.new()
        node = await open_town.visit(key)
        await asyncio.sleep(0.02)
        spoken = asyncio.Event()

        async def hear(_: object, spoken: asyncio.Event = spoken) -> None:
            spoken.set()

        heard = await inside.subscribe(IdentityBanned.pattern(public_key=key.public_key), cb=hear)
        await inside.flush()
        banning = asyncio.create_task(ops.ban(key))
        await spoken.wait()
        since = time.perf_counter()
        await asyncio.wait_for(node.closed.wait(), 5)
        delays.append(time.perf_counter() - since)
        await banning
        await heard.unsubscribe()
        assert await refused(open_town, key)
    assert sorted(delays)[len(delays) // 2] <= BAN_SECONDS, delays
    assert not await refused(open_town, nkey.new())


async def test_a_banned_partner_is_out_under_its_name_and_its_key(open_town: Town) -> None:
    ops, key = await operator(open_town), nkey.new()
    await ops.register("acme", key)
    partners = [await open_town.visit(key, "acme") for _ in range(3)]
    await ops.ban(key)
    for partner in partners:
        await asyncio.wait_for(partner.closed.wait(), 5)
    assert await refused(open_town, key)
    again = await ops.register("acme2", key, PartnerRefused)
    assert isinstance(again, PartnerRefused) and again.refusal.reason == Reason.banned


async def test_the_first_reason_of_a_ban_stands(open_town: Town) -> None:
    ops, key = await operator(open_town), nkey.new()
    first, second = await ops.ban(key, Reason.too_slow), await ops.ban(key, Reason.wrong_answer)
    assert isinstance(first, IdentityBanned) and isinstance(second, IdentityBanned)
    assert first.reason == second.reason == Reason.too_slow


async def test_a_ban_outlives_the_gate(
    town: Town, database: Callable[[str], Awaitable[str]], settings_of: Callable[[], Awaitable[Settings]]
) -> None:
    settings, banned, good = await settings_of(), nkey.new(), nkey.new()
    async with gate(settings):
        await door_open(town)
        await (await operator(town)).ban(banned)
        partner = await town.visit(good)
    assert not partner.closed.is_set()  # who is in stays in while the gate is away
    async with gate(settings):
        await door_open(town)
        assert await refused(town, banned)
        assert not await refused(town, good)
    await town.leave()


async def test_a_ban_made_while_the_gate_was_away_is_found(
    town: Town, settings_of: Callable[[], Awaitable[Settings]]
) -> None:
    """The node is connected, the gate dies, another gate writes the ban unheard: the next one reads it."""
    import asyncpg

    settings, key = await settings_of(), nkey.new()
    async with gate(settings):
        await door_open(town)
        node = await town.visit(key)
    connection = await asyncpg.connect(settings.database_url)
    await connection.execute(
        "INSERT INTO bans (public_key, reason, evidence, banned_at) VALUES ($1, 'banned', '', 1)", key.public_key
    )
    await connection.close()
    async with gate(settings):
        await asyncio.wait_for(node.closed.wait(), 10)
    await town.leave()


async def test_the_second_connection_of_a_node_ends_the_first(open_town: Town) -> None:
    key = nkey.new()
    first = await open_town.visit(key)
    second = await open_town.visit(key)
    await asyncio.wait_for(first.closed.wait(), 5)
    third = await open_town.visit(key)
    await asyncio.wait_for(second.closed.wait(), 5)
    await asyncio.sleep(0.2)
    assert not third.closed.is_set()
    await third.client.flush()


async def test_a_partner_may_come_twice_but_not_without_end(
    town: Town, settings_of: Callable[..., Awaitable[Settings]]
) -> None:
    async with gate(await settings_of(connections_max=3)):
        await door_open(town)
        key = nkey.new()
        await (await operator(town)).register("acme", key)
        many = [await town.visit(key, "acme") for _ in range(3)]
        await asyncio.sleep(0.1)
        assert not any(visitor.closed.is_set() for visitor in many)
        assert await refused(town, key)
        await many[0].client.close()
        await asyncio.sleep(0.1)
        assert not await refused(town, key)
        await town.leave()


async def test_registration_gives_a_name_once(open_town: Town) -> None:
    ops, key, other = await operator(open_town), nkey.new(), nkey.new()
    first = await ops.register("acme", key)
    same = await ops.register("acme", key)
    assert isinstance(first, PartnerRegistered) and isinstance(same, PartnerRegistered)
    for partner, wrong, reason in (
        ("acme", other, Reason.already_registered),
        ("rival", key, Reason.already_registered),
        ("ledger", other, Reason.not_allowed),
        (OPERATOR, other, Reason.not_allowed),
        ("rival", open_town.operator, Reason.not_allowed),
    ):
        answer = await ops.register(partner, wrong, PartnerRefused)
        assert isinstance(answer, PartnerRefused) and answer.refusal.reason == reason
    assert not await refused(open_town, other, token="node")


async def test_a_partners_bucket_is_there_when_it_is_registered(open_town: Town) -> None:
    ops, inside = await operator(open_town), (await open_town.inside()).jetstream()
    with pytest.raises(NotFoundError):
        await inside.object_store(bucket_of_partner("fresh"))
    await ops.register("fresh", nkey.new())
    async with asyncio.timeout(5):
        while True:
            try:
                await inside.object_store(bucket_of_partner("fresh"))
                return
            except NotFoundError:
                await asyncio.sleep(0.05)


async def test_a_node_that_becomes_a_partner_comes_in_anew(open_town: Town) -> None:
    ops, key = await operator(open_town), nkey.new()
    node = await open_town.visit(key)
    await asyncio.sleep(0.05)
    await ops.register("acme", key)
    await asyncio.wait_for(node.closed.wait(), 5)
    partner = await open_town.visit(key, "acme", token="partner")
    assert await partner.may_publish(PlaceBooking.pattern(partner="acme", booking_id="b1"))


async def test_a_connection_ends_with_its_token(town: Town, settings_of: Callable[..., Awaitable[Settings]]) -> None:
    async with gate(await settings_of(jwt_seconds=2)):
        await door_open(town)
        node = await town.visit(nkey.new())
        since = time.monotonic()
        await asyncio.wait_for(node.closed.wait(), 15)
        assert 0.5 < time.monotonic() - since < 4
        await town.leave()
