"""The rank board: a sorted set in Valkey, derived from the standings and built anew whenever it is not whole."""

from collections.abc import Mapping

from redis.asyncio import Redis
from redis.exceptions import RedisError

from libs.ids import new_id
from services.reputation.domain.rank import rank

_KEY = "reputation:board"
_UNFINISHED_SECONDS = 600
# A member no node can be. It is written with a whole board only, into the same key: whatever loses a part of the board
# by losing the key loses this too, and a board without it is not used.
_WHOLE = "whole"
_CHUNK = 1000


class Board:
    """Nodes by lower bound."""

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey

    async def rank(self, node_id: str, lower_millis: int) -> int | None:
        """The node's rank among all; None where the board is not whole or Valkey is away."""
        try:
            async with self._valkey.pipeline(transaction=True) as pipe:
                pipe.zscore(_KEY, _WHOLE)
                pipe.zcount(_KEY, f"({lower_millis}", "+inf")
                pipe.zscore(_KEY, node_id)
                whole, higher, own = await pipe.execute()
        except (RedisError, OSError):
            return None
        return None if whole is None else rank(lower_millis, higher, None if own is None else int(own))

    async def place(self, lower_bounds: Mapping[str, int]) -> bool:
        """Write these onto the board; False when it is not whole and has to be built."""
        if await self._valkey.zscore(_KEY, _WHOLE) is None:
            return False
        await self._add(_KEY, lower_bounds)
        return True

    async def build(self, lower_bounds: Mapping[str, int]) -> None:
        """Put a whole board in the place of what is there, at once."""
        unfinished = f"{_KEY}:{new_id()}"
        await self._add(unfinished, {_WHOLE: -1})
        await self._valkey.expire(unfinished, _UNFINISHED_SECONDS)
        await self._add(unfinished, lower_bounds)
        await self._valkey.persist(unfinished)
        await self._valkey.rename(unfinished, _KEY)

    async def _add(self, key: str, lower_bounds: Mapping[str, int]) -> None:
        nodes = list(lower_bounds)
        for first in range(0, len(nodes), _CHUNK):
            await self._valkey.zadd(key, {node: lower_bounds[node] for node in nodes[first : first + _CHUNK]})
