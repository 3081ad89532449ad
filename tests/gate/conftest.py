"""A server with accounts and a callout for all tests of the gate, and one gate at its door for each."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from libs.bus.serve import serve
from services.gate.__main__ import service
from services.gate.settings import Settings
from tests.gate.town import Town, door_open, found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    town = await found(tmp_path_factory.mktemp("town"))
    yield town
    await town.server.stop()


@asynccontextmanager
async def gate(settings: Settings) -> AsyncIterator[None]:
    """A gate in this process."""
    stop, started = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(serve(service(settings), settings, stop=stop, started=started))
    waiting = asyncio.create_task(started.wait())
    try:
        async with asyncio.timeout(30):
            await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        yield
    finally:
        waiting.cancel()
        stop.set()
        async with asyncio.timeout(30):
            await serving


@pytest_asyncio.fixture(loop_scope="session")
async def open_town(town: Town, database: Callable[[str], Awaitable[str]]) -> AsyncIterator[Town]:
    """The server with one gate, nobody known but the operator."""
    async with gate(town.settings(await database("gate"))):
        await door_open(town)
        yield town
        await town.leave()


@pytest.fixture
def settings_of(town: Town, database: Callable[[str], Awaitable[str]]) -> Callable[..., Awaitable[Settings]]:
    async def of(**more: Any) -> Settings:
        return town.settings(await database("gate"), **more)

    return of
