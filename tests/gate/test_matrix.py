"""The permissions on the real server: every role, every message, said and heard, and what arrives on the other side."""

import asyncio

import pytest
from nats.aio.msg import Msg

from libs import nkey
from services.gate.domain.permissions import ROLES, Role
from tests.gate.roles import hears, is_about, says, subject
from tests.gate.test_bans import operator
from tests.gate.town import OPERATOR, Town, Visitor
from wire.catalog import CATALOG


async def _as(town: Town, role: Role) -> tuple[str, str, Visitor]:
    """An identity of that role, another one, and a connection as the first."""
    if role == "operator":
        return OPERATOR, "spo", await town.visit(town.operator, OPERATOR)
    key = nkey.new()
    if role == "node":
        return key.public_key, nkey.new().public_key, await town.visit(key)
    await (await operator(town)).register("acme", key)
    return "acme", "rival", await town.visit(key, "acme")


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_says_what_it_may_and_the_network_hears_it(open_town: Town, role: Role) -> None:
    own, other, visitor = await _as(open_town, role)
    inside = await open_town.inside()
    arrived: set[str] = set()

    async def note(message: Msg) -> None:
        arrived.add(message.subject)

    for kind in {entry.message.SUBJECT.split(".")[0] for entry in CATALOG}:
        await inside.subscribe(f"{kind}.>", cb=note)
    await inside.flush()
    for entry in CATALOG:
        mine, theirs = subject(entry.message, role, own), subject(entry.message, role, other)
        assert await visitor.may_publish(mine) == says(entry, role), mine
        if is_about(entry.message, role):
            assert not await visitor.may_publish(theirs), theirs
    await inside.flush()
    await asyncio.sleep(0.1)
    expected = {subject(entry.message, role, own) for entry in CATALOG if says(entry, role)}
    assert expected - arrived == set()
    assert {gone for gone in arrived if other in gone.split(".")} == set()


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_hears_what_it_may_and_it_arrives(open_town: Town, role: Role) -> None:
    own, other, visitor = await _as(open_town, role)
    inside = await open_town.inside()
    arrived: set[str] = set()

    async def note(message: Msg) -> None:
        arrived.add(message.subject)

    for entry in CATALOG:
        mine, theirs = subject(entry.message, role, own), subject(entry.message, role, other)
        before = len(visitor.complaints)
        await visitor.client.subscribe(mine, cb=note)
        await visitor.client.flush()
        await visitor.client.flush()
        assert (len(visitor.complaints) == before) == hears(entry, role), mine
        if is_about(entry.message, role) and role != "operator":
            assert not await visitor.may_subscribe(theirs), theirs
    for entry in CATALOG:
        await inside.publish(subject(entry.message, role, own), b"{}")
    await inside.flush()
    await asyncio.sleep(0.2)
    expected = {subject(entry.message, role, own) for entry in CATALOG if hears(entry, role)}
    assert arrived == expected
