"""The bus of the live network, with every partner's connection, shared by the tests of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.e2e.aftermath import errors, standing
from tests.e2e.bus import Bus, opened
from tests.e2e.network import LiveNetwork


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bus(live_network: LiveNetwork) -> AsyncIterator[Bus]:
    """When the file is done, nothing may be half-done: every refusal came once, every dead letter was told, money,
    nodes and processes are as they were, and no service has logged an error."""
    async with opened(live_network) as bus:
        before, complaints = await standing(live_network, bus), len(errors(live_network))
        yield bus
        await bus.settled()
        assert {about: len(bus.refusals(about)) for about in bus.expected} == dict(bus.expected)
        assert await bus.dead() == bus.turned_away()
        assert await standing(live_network, bus) == before
        assert not errors(live_network)[complaints:]
