"""Two gates at one door: each does half, either does all."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from libs import nkey
from libs.process import Child, start
from services.gate.settings import Settings
from tests.gate.test_bans import operator
from tests.gate.town import Town, door_open, refused


def environment(settings: Settings) -> dict[str, str]:
    return {f"BIVOUAC_{name.upper()}": str(value) for name, value in msgspec.structs.asdict(settings).items()}


@asynccontextmanager
async def replicas(settings: Settings, directory: Path, count: int) -> AsyncIterator[list[Child]]:
    """Gates as processes of their own."""
    root = Path(__file__).parent.parent.parent
    gates = [
        start(
            [sys.executable, "-m", "services.gate"],
            log=directory / f"gate{number}.log",
            cwd=root,
            env={**os.environ, **environment(settings), "PYTHONPATH": f"{root / 'proto'}:{root}"},
        )
        for number in range(count)
    ]
    try:
        async with asyncio.timeout(30):
            while not all(b"at the door" in child.log.read_bytes() for child in gates):  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.05)
        yield gates
    finally:
        await asyncio.gather(*(child.stop() for child in gates))


async def test_one_of_two_is_killed_and_connects_go_on(
    town: Town, settings_of: Callable[..., Awaitable[Settings]], tmp_path: Path
) -> None:
    async with replicas(await settings_of(), tmp_path, 2) as (first, second):
        await door_open(town)
        keys = [nkey.new() for _ in range(40)]
        for key in keys:
            assert not await refused(town, key)
        first.kill()
        after = Counter([await refused(town, key) for key in keys])
        # A question that was on its way to the dead one when it died has no answer.
        assert after[True] <= 1
        assert second.running
        banned = keys[0]
        await (await operator(town)).ban(banned)
        await asyncio.sleep(0.05)
        assert await refused(town, banned)
        await town.leave()


async def test_both_hear_a_ban(town: Town, settings_of: Callable[..., Awaitable[Settings]], tmp_path: Path) -> None:
    """Whichever of them is asked."""
    async with replicas(await settings_of(), tmp_path, 2):
        await door_open(town)
        banned = nkey.new()
        await (await operator(town)).ban(banned)
        await asyncio.sleep(0.05)
        for _ in range(20):
            assert await refused(town, banned)
        await town.leave()


async def test_the_gate_stands_up_when_the_server_does(
    town: Town, settings_of: Callable[..., Awaitable[Settings]], tmp_path: Path
) -> None:
    async with replicas(await settings_of(), tmp_path, 1):
        await door_open(town)
        town.server.kill()
        await town.server.start()
        await door_open(town, seconds=30)
