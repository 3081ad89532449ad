"""Telemetry: from the connection straight to a function, past FastStream, transactions and all else that costs time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from wire.message import Telemetry

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

Heard = Callable[[str, bytes], None]

PENDING_BYTES = 64 << 20
"""Beyond this the oldest wait is too long to be of use, and the connection drops what comes."""

log = logging.getLogger("bus")


async def listen(client: Client, hears: Mapping[type[Telemetry], Heard], failures: Counter[str]) -> list[Subscription]:
    """Hand every message of these kinds to its function; what one raises is counted, and logged the first time."""
    return [
        await client.subscribe(
            kind.pattern(),
            cb=_tap(kind.__name__, heard, failures),
            pending_msgs_limit=0,
            pending_bytes_limit=PENDING_BYTES,
        )
        for kind, heard in hears.items()
    ]


def _tap(name: str, heard: Heard, failures: Counter[str]) -> Callable[[Msg], Awaitable[None]]:
    async def tap(message: Msg) -> None:
        try:
            heard(message.subject, message.data)
        except Exception:
            failures[name] += 1
            if failures[name] == 1:
                log.exception("%s: the first that could not be heard; the others are counted", name)

    return tap
