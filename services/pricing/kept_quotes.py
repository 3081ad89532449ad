"""Quotes that were given, kept in Valkey for as long as they hold: what is not found there has expired.

The partner is part of the key, so that another partner's id finds nothing and tells nothing.
"""

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from wire.quote import Quote


class KeptQuotes:
    """A Valkey that is away is a Valkey without quotes; its client has retried by then (see libs.cache)."""

    def __init__(self, valkey: Redis, seconds: int) -> None:
        self._valkey = valkey
        self._seconds = seconds

    async def keep(self, partner: str, quote: Quote) -> bool:
        """Whether it is kept: a quote that is not must not be given."""
        try:
            await self._valkey.set(_key(partner, quote.quote_id), msgspec.json.encode(quote), ex=self._seconds)
        except (RedisError, OSError):
            return False
        return True

    async def find(self, partner: str, quote_id: str) -> Quote | None:
        try:
            kept = await self._valkey.get(_key(partner, quote_id))
            return msgspec.json.decode(kept, type=Quote) if kept else None
        except (RedisError, OSError, msgspec.MsgspecError):
            return None


def _key(partner: str, quote_id: str) -> str:
    return f"pricing:quote:{partner}:{quote_id}"
