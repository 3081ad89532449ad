"""A scheduler on an empty database, driven message by message."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest_asyncio

from tests.scheduler.driver import Driver, open_driver


@pytest_asyncio.fixture(loop_scope="session")
async def driver(database: Callable[[str], Awaitable[str]]) -> AsyncIterator[Driver]:
    opened = await open_driver(await database("scheduler"))
    yield opened
    await opened.connection.close()
