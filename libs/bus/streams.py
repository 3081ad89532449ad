"""The JetStream streams and consumers as they must be: made or brought up to date by every service that starts."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any

from nats.aio.client import Client
from nats.errors import Error as NatsError

from wire.streams import Stream

_API_SECONDS = 3.0
_NANO = 1_000_000_000
STREAM_NOT_FOUND = 10059
_NAME_IN_USE, _STORE_TOO_SMALL = 10058, 10047
_STORE_BYTES_UNKNOWN, _STORE_BYTES_MIN = 8 << 30, 64 << 20

ACK_WAIT_SECONDS = 5.0
"""A killed service's messages come back after this. What is in hand for longer says so (`in_progress`), so it need not
cover the longest work, only three times the slowest group (seen for 256 messages: 44 ms, on a busy machine 0.24 s)."""

ACKS_PENDING_MAX = 4096
"""≤ ack_wait / mean time of a message (5 s / 1 ms), and above what is fetched ahead, so that retries never block."""

log = logging.getLogger("bus")


class ApiError(Exception):
    """JetStream refused; `code` is its err_code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code


async def api(client: Client, subject: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
    """A request to the JetStream API, in its own JSON: nats-py's classes lack the newer fields."""
    body = json.dumps(request).encode() if request is not None else b""
    answer = await client.request(f"$JS.API.{subject}", body, timeout=_API_SECONDS)
    result: dict[str, Any] = json.loads(answer.data)
    if "error" in result:
        raise ApiError(result["error"].get("err_code", 0), result["error"].get("description", "refused"))
    return result


def stream_config(stream: Stream, store_bytes: int, replicas: int) -> dict[str, Any]:
    """One stream as the server wants it.

    A full work queue refuses what is new: its publishers keep that in their outboxes and no command is lost. The
    event and dead-letter streams drop what is oldest: they are history, kept in the outboxes too, and refusing would
    let whoever fills them stop every service at once.
    """
    return {
        "name": stream.name,
        "subjects": list(stream.subjects),
        "retention": stream.retention,
        "storage": "file",
        "discard": "new" if stream.retention == "workqueue" else "old",
        "max_bytes": int(store_bytes * stream.share),
        "max_age": stream.max_age_seconds * _NANO,
        "max_msg_size": stream.max_msg_size,
        "duplicate_window": stream.duplicate_window_seconds * _NANO,
        "num_replicas": replicas,
        "allow_atomic": True,
        "allow_direct": True,
    }


async def ensure(client: Client, streams: Sequence[Stream], store_bytes: int = 0, replicas: int = 1) -> None:
    """Make the streams, or bring them up to date; services that start at once may all do so.

    With `store_bytes` 0 they share what the server says the account may store, or, as most servers do not say,
    8 GiB, or the largest half, quarter … of that which the server has room for.
    """
    wanted = store_bytes or await _account_bytes(client) or _STORE_BYTES_UNKNOWN
    while True:
        try:
            for stream in streams:
                await _ensure_one(client, stream_config(stream, wanted, replicas))
            return
        except ApiError as error:
            if error.code != _STORE_TOO_SMALL or store_bytes or wanted < _STORE_BYTES_MIN:
                raise
            wanted //= 2


async def _account_bytes(client: Client) -> int:
    limit: int = (await api(client, "INFO")).get("limits", {}).get("max_storage", -1)
    return max(limit, 0)


async def _ensure_one(client: Client, config: dict[str, Any]) -> None:
    name = config["name"]
    try:
        known = (await api(client, f"STREAM.INFO.{name}"))["config"]
    except ApiError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
        try:
            await api(client, f"STREAM.CREATE.{name}", config)
            return
        except ApiError as race:
            if race.code != _NAME_IN_USE:
                raise
            return  # another service has just made it
    if any(known.get(field) != value for field, value in config.items()):
        await api(client, f"STREAM.UPDATE.{name}", {**known, **config})


async def info(client: Client, name: str) -> dict[str, Any]:
    return await api(client, f"STREAM.INFO.{name}")


async def ensure_consumer(client: Client, stream: str, name: str, subjects: Sequence[str]) -> None:
    """The durable pull consumer `name`, with these filters; made, or changed if its filters were others.

    Deliveries are not limited here: being killed with a message in hand is not that message's fault, so the service
    counts failures itself and parks what fails again and again.
    """
    config = {
        "durable_name": name,
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "ack_wait": int(ACK_WAIT_SECONDS * _NANO),
        "max_ack_pending": ACKS_PENDING_MAX,
        "max_deliver": -1,
        "max_waiting": 64,
        "filter_subjects": sorted(subjects),
        "replay_policy": "instant",
    }
    await api(client, f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})


async def until_there(what: str, client: Client, make: Any) -> None:
    """Repeat `make()` until JetStream has done it: it may be starting, electing a leader, or away."""
    pause, told = 0.05, False
    while not client.is_closed:
        try:
            await make()
            return
        except (ApiError, NatsError, TimeoutError) as error:
            if not told:
                log.warning("%s waits: %s", what, error)
                told = True
        await asyncio.sleep(pause)
        pause = min(2 * pause, 2.0)
