"""Telemetry: from the connection straight to a function, past FastStream, transactions and all else that costs time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_type_hints

import msgspec

from wire.message import Malformed, Telemetry

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

M = TypeVar("M", bound=Telemetry)
Heard = Callable[[str, bytes], None]

PENDING_BYTES = 64 << 20
"""Beyond this the oldest wait is too long to be of use, and the connection drops what comes."""

_LEAN_BYTES_MAX = 4096

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


def lean_decoder(kind: type[M]) -> Callable[[bytes], M]:
    """A decoder of `kind` that checks types and its tag, but no patterns and no lengths: 0.3 µs instead of 1.3.

    For a hearer that only compares what it decodes with what it knows, where a pattern protects nothing. What it
    returns has the fields of `kind` and is no instance of it; a body of more than 4 KiB is malformed.
    """
    hints = get_type_hints(kind)
    fields: list[Any] = []
    for field in msgspec.structs.fields(kind):
        if field.required:
            fields.append((field.encode_name, hints[field.name]))
        else:
            fields.append((field.encode_name, hints[field.name], field.default))
    config = kind.__struct_config__
    lean = msgspec.defstruct(
        kind.__name__, fields, frozen=True, kw_only=True, tag=config.tag, tag_field=config.tag_field
    )
    decode = msgspec.json.Decoder(lean).decode

    def bounded(body: bytes) -> M:
        if len(body) > _LEAN_BYTES_MAX:
            raise Malformed(f"The body has {len(body)} bytes; at most {_LEAN_BYTES_MAX} are read.")
        return cast("M", decode(body))

    return bounded
