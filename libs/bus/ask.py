"""Connecting to the bus and asking questions, for processes that must stay small: nats-py and msgspec only."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from libs.clock import now_ms
from libs.ids import new_id
from wire.message import Query, Reply, encode

R = TypeVar("R", bound=Reply)
Told = Callable[[], Awaitable[None]]

ERROR_HEADER = "Nats-Service-Error"
ERROR_CODE_HEADER = "Nats-Service-Error-Code"
_RETRY_SECONDS = 0.1

log = logging.getLogger("bus")


class Connection(Client):
    """nats-py's client, made safe against subjects that are not UTF-8.

    Whoever may publish under a wildcard may put any bytes there, and the server passes them on. nats-py's read loop
    dies of them, again at each redelivery: one message would silence every service that it is delivered to.
    """

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        return Msg(
            _client=self,
            subject=subject.decode(errors="backslashreplace"),
            reply=reply.decode(errors="backslashreplace"),
            data=data,
            headers=headers,
            _sid=sid,
        )


class AskFailed(Exception):
    """The other side answered that it cannot answer; the text is its sentence."""


async def connect(
    url: str,
    seed: str = "",
    name: str = "",
    *,
    seed_file: str = "",
    patient: bool = True,
    disconnected: Told | None = None,
    reconnected: Told | None = None,
    closed: Told | None = None,
) -> Client:
    """A connection that reconnects for ever, as the holder of the nkey `seed`.

    `name` is the identity: its answers come in under `_INBOX_<name>`, which is all that it may listen to.
    Not `patient`, the first connection is tried once and its failure raised. nats-py gives a connection up for good
    when the server refuses it in mid-life: `closed` is told, and connecting anew is the caller's.
    """
    if seed_file:
        seed = Path(seed_file).read_text(encoding="ascii").strip()
    first = True

    async def failed(error: Exception) -> None:
        if first and not patient:
            raise error
        log.debug("bus connection: %s", error)

    options: dict[str, Any] = {"reconnect_time_wait": 0.2}  # typed as whole seconds, slept as given
    if seed:
        options["nkeys_seed_str"] = seed
    client = Connection()
    await client.connect(
        url,
        name=name or None,
        inbox_prefix=f"_INBOX_{name}" if name else "_INBOX",
        error_cb=failed,
        disconnected_cb=disconnected,
        reconnected_cb=reconnected,
        closed_cb=closed,
        max_reconnect_attempts=-1,
        connect_timeout=3,
        ping_interval=5,
        max_outstanding_pings=2,
        pending_size=16 << 20,
        **options,
    )
    first = False
    return client


async def ask(client: Client, query: Query, reply_type: type[R], timeout: float = 5.0) -> R:
    """Ask and wait; a service that is just restarting is asked again until `timeout` seconds are over.

    Raises TimeoutError, AskFailed, or msgspec.ValidationError where the answer is not a `reply_type`.
    """
    query = query.stamped(new_id("qry"), now_ms())
    body, deadline = encode(query), time.monotonic() + timeout
    while True:
        try:
            answer = await client.request(query.subject(), body, timeout=max(0.01, deadline - time.monotonic()))
            break
        except NoRespondersError:
            if time.monotonic() + _RETRY_SECONDS >= deadline:
                raise TimeoutError(f"Nobody answers {query.subject()}.") from None
            await asyncio.sleep(_RETRY_SECONDS)
    if answer.headers and ERROR_HEADER in answer.headers:
        raise AskFailed(answer.headers[ERROR_HEADER])
    return msgspec.json.decode(answer.data, type=reply_type)
