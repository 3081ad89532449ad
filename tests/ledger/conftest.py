"""A ledger on a fresh schema of a real PostgreSQL."""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest_asyncio

from libs.local.servers import LocalServers
from services.ledger.settings import Settings
from tests.ledger.builders import Desk


@pytest_asyncio.fixture(loop_scope="session")
async def desk(settings: Callable[..., Awaitable[Settings]]) -> AsyncIterator[Desk]:
    own = await settings("ledger", kind=Settings)
    opened = Desk(own.database_url, own)
    await opened.open()
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="session")
async def superuser(servers: LocalServers, desk: Desk) -> AsyncIterator[asyncpg.Connection]:
    """Whom no right stops; on the ledger's own schema."""
    connection = await asyncpg.connect(servers.addresses.postgres_admin, server_settings={"search_path": "ledger"})
    yield connection
    await connection.close()


@pytest_asyncio.fixture(loop_scope="session")
async def settings_of_ledger(settings: Callable[..., Awaitable[Settings]]) -> Settings:
    """With odd figures, so that everything has to be rounded."""
    odd = {"epoch_emission": 100_000_000_007, "render_usd_micros": 3_999_999, "epoch_render_usd_micros": 1_234_567}
    return await settings("ledger", kind=Settings, **odd)
