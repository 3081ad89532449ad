"""The file that health checks look at: fresh while a process serves, stale when it lost the bus, gone at its end."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from libs.bus import ready
from libs.bus.rows import Rows
from libs.bus.service import Service
from tests.conftest import Running


@asynccontextmanager
async def kept(path: str, connected: Callable[[], bool]) -> AsyncIterator[None]:
    task = asyncio.create_task(ready.keep(path, connected))
    await asyncio.sleep(0.05)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "BEAT_SECONDS", 0.01)


async def test_it_is_touched_as_long_as_there_is_a_connection(tmp_path: Path) -> None:
    file, there = tmp_path / "ready", [True]
    async with kept(str(file), lambda: there[0]):
        os.utime(file, (0, 0))
        await asyncio.sleep(0.05)
        assert file.stat().st_mtime > 0
        there[0] = False
        await asyncio.sleep(0.05)
        os.utime(file, (0, 0))
        await asyncio.sleep(0.05)
        assert file.stat().st_mtime == 0
    assert not file.exists()


async def test_without_a_connection_there_is_none(tmp_path: Path) -> None:
    async with kept(str(tmp_path / "ready"), lambda: False):
        assert not list(tmp_path.iterdir())


async def test_a_place_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    task = asyncio.create_task(ready.keep(str(tmp_path / "missing" / "ready"), lambda: True))
    await asyncio.sleep(0.05)
    assert not task.done()
    task.cancel()


async def test_a_service_has_it_while_it_serves(
    running_service: Callable[..., AbstractAsyncContextManager[Running]],
    settings: Callable[..., Awaitable[object]],
    tmp_path: Path,
) -> None:
    file = tmp_path / "ready"
    own = await settings("counter", ready_file=str(file))
    async with running_service(Service(name="counter", migrations="libs.bus", rows=Rows), own):
        await asyncio.sleep(0.1)
        assert file.exists()
    assert not file.exists()
