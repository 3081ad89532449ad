"""A file that tells others on this machine that a process serves: touched again and again while it does, then removed.

Whoever looks takes a file that is older than a few beats for a process that hangs, or has lost the bus.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

BEAT_SECONDS = 5.0


async def keep(path: str, connected: Callable[[], bool]) -> None:
    """Until it is cancelled; an empty path tells nobody."""
    try:
        while True:
            if path and connected():
                with contextlib.suppress(OSError):  # whoever looks for it sees that it is not there
                    Path(path).touch()
            await asyncio.sleep(BEAT_SECONDS)
    finally:
        if path:
            Path(path).unlink(missing_ok=True)
