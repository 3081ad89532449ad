"""What has been heard, in order and bounded, so that who listens later still hears it from the beginning."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Story(Generic[T]):
    """An append-only list that forgets its oldest entries; a reader is a position in it."""

    def __init__(self, keep: int) -> None:
        self._kept: deque[T] = deque(maxlen=keep)
        self._end = 0
        self._grown = asyncio.Event()

    def add(self, entry: T) -> None:
        self._kept.append(entry)
        self._end += 1
        self.wake()

    def wake(self) -> None:
        """Let everybody who waits look again."""
        self._grown.set()
        self._grown = asyncio.Event()

    def since(self, position: int) -> tuple[list[T], int]:
        """The entries from `position` on that are still kept, and the position after them."""
        fresh = min(self._end - position, len(self._kept))
        return ([self._kept[index] for index in range(-fresh, 0)], self._end)

    async def grows(self, timeout: float) -> bool:
        """Waits for the next entry or wake; False when none came in time."""
        try:
            await asyncio.wait_for(self._grown.wait(), timeout)
        except TimeoutError:
            return False
        return True
