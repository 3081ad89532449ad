"""What a service does by itself: tasks every so often, each in a transaction, and tasks that run as long as it does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from libs.clock import now_ms
from libs.ids import new_id
from libs.postgres import Away

if TYPE_CHECKING:
    from libs.bus.reach import Reach
    from libs.bus.service import Every
    from libs.bus.transactions import Transactions

_FIRST_SECONDS_MAX = 1.0
_PAUSE_SECONDS = (0.2, 30.0)
_MINE = "SELECT pg_try_advisory_xact_lock(hashtext(current_schema()), hashtext($1))"

log = logging.getLogger("bus")


async def repeat(every: Every, transactions: Transactions) -> None:
    """Run a task for ever; one that is late skips what it missed. Of several replicas one runs it at a time."""

    async def task(rows: Any) -> None:
        if await rows.connection.fetchval(_MINE, every.name):
            await every.task(rows)

    due = time.monotonic() + min(every.seconds, _FIRST_SECONDS_MAX)
    while True:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        try:
            await transactions.attempt(f"every/{every.name}/{new_id()}", task)
        except Away:
            log.debug("%s skipped: the database is away", every.name)
        except Exception:
            log.exception("%s failed", every.name)
        due = max(due + every.seconds, time.monotonic())


async def keep_running(task: Callable[[Reach], Awaitable[None]], reach: Reach) -> None:
    """Run a task for as long as the service; where it raises, again after a pause that grows until it holds a while."""
    name = getattr(task, "__qualname__", repr(task))
    pause = _PAUSE_SECONDS[0]
    while True:
        started = now_ms()
        try:
            await task(reach)
            return
        except Exception:
            log.exception("%s failed and starts again in %.1f s", name, pause)
        await asyncio.sleep(pause)
        held = now_ms() - started > 60_000
        pause = _PAUSE_SECONDS[0] if held else min(2 * pause, _PAUSE_SECONDS[1])
