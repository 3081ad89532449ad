"""Keeps the rank board abreast of the standings, after their commits: it may lag, it never leads."""

import asyncio
import logging
from collections.abc import Mapping

from redis.exceptions import RedisError

from libs.bus.reach import Reach
from services.reputation.board import Board
from services.reputation.store import Rows

_AWAY_SECONDS = 2.0

log = logging.getLogger("reputation")


class BoardKeeper:
    """Brings the board up to date every `seconds`, which is how soon a wiped board is whole again.

    It is built anew every `rebuild_seconds` too: of two replicas one may write what the other has overtaken.
    """

    def __init__(self, board: Board, reach: Reach, seconds: float, rebuild_seconds: float) -> None:
        self._board = board
        self._reach = reach
        self._seconds = seconds
        self._rounds = max(1, round(rebuild_seconds / seconds))

    async def run(self) -> None:
        while True:
            try:
                await self._build()
                for _ in range(self._rounds):
                    await asyncio.sleep(self._seconds)
                    if not await self._update():
                        break
            except (RedisError, OSError) as error:
                # Ranks are counted in PostgreSQL meanwhile, so this harms nobody.
                log.warning("the rank board waits for Valkey: %s", error)
                await asyncio.sleep(max(self._seconds, _AWAY_SECONDS))

    async def _update(self) -> bool:
        """Show what is not shown yet; False when the board is not whole."""
        stale: Mapping[str, int] = await self._reach.transact("board", Rows.stale_on_board)
        if not await self._board.place(stale):
            return False
        await self._mark_shown(stale)
        return True

    async def _build(self) -> None:
        bounds: Mapping[str, int] = await self._reach.transact("board", Rows.all_lower_bounds)
        await self._board.build(bounds)
        await self._mark_shown(bounds)

    async def _mark_shown(self, bounds: Mapping[str, int]) -> None:
        # After they are shown, and only those that are still so: a crash in between shows them once more.
        async def mark(rows: Rows) -> None:
            await rows.mark_shown(bounds)

        if bounds:
            await self._reach.transact("board", mark)
