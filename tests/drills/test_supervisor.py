"""The local network's supervisor: what dies comes back, also where it dies again while it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bivouac.client import Client
from bivouac.errors import BivouacError
from tests.drills.network import network, supervised


async def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - a process tells nobody that it has started
            await asyncio.sleep(0.002)


async def answered(client: Client, seconds: float = 30.0) -> None:
    """Until the ledger answers, which needs all three servers, the gate and itself."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                await client.balance()
                return
            except BivouacError:
                await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_a_server_that_dies_while_it_starts_is_started_again(tmp_path: Path) -> None:
    async with network(tmp_path / "net", {}) as made, supervised(made), await made.partner("acme") as client:
        first = made.pid("postgres")
        made.kill("postgres")
        await until(lambda: made.pid("postgres") not in (None, first))
        made.kill("postgres")  # it has been there for milliseconds
        await asyncio.sleep(0.5)
        await answered(client)
