"""Valkey: what may be lost and is made again from the database; nobody waits long for it and nobody depends on it."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as ConnectionFailed
from redis.exceptions import TimeoutError as Late

_TIMEOUT_SECONDS = 0.5
_RETRIES, _PAUSE_SECONDS = 3, 0.05
_CONNECTIONS_MAX = 64


def connect(url: str) -> Redis:
    """A client that connects when it is first used, and again whenever it must.

    A call on a connection that died is made again, three times within 0.15 s, which outlasts a restart of Valkey.
    After that, and after half a second without an answer, it raises redis.exceptions.RedisError or OSError: then
    Valkey is away, and its caller does without it. Every call may therefore happen twice.
    """
    return Redis.from_url(
        url,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        socket_keepalive=True,
        max_connections=_CONNECTIONS_MAX,
        retry=Retry(ConstantBackoff(_PAUSE_SECONDS), _RETRIES),
        retry_on_error=[ConnectionFailed, Late],
    )
