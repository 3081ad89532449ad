"""Numbers kept in ascending order, in blocks: adding or removing one costs the same among a hundred and a million."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import chain

BLOCK = 512


class Ranked:
    """Distinct integers; `blocks` holds them in order, none of the blocks is empty, none is longer than BLOCK."""

    __slots__ = ("_lasts", "blocks", "count")

    def __init__(self, ascending: Iterable[int] = ()) -> None:
        numbers = list(ascending)
        half = BLOCK // 2  # room to grow
        self.blocks = [numbers[start : start + half] for start in range(0, len(numbers), half)]
        self._lasts = [block[-1] for block in self.blocks]
        self.count = len(numbers)

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.blocks)

    def add(self, number: int) -> None:
        blocks, lasts = self.blocks, self._lasts
        self.count += 1
        if not blocks:
            blocks.append([number])
            lasts.append(number)
            return
        at = bisect_left(lasts, number) if len(blocks) > 1 else 0
        if at == len(blocks):
            at -= 1
        block = blocks[at]
        insort(block, number)
        if len(block) > BLOCK:
            blocks.insert(at + 1, block[BLOCK // 2 :])
            del block[BLOCK // 2 :]
            lasts.insert(at + 1, blocks[at + 1][-1])
        lasts[at] = block[-1]

    def remove(self, number: int) -> None:
        """Raises KeyError, and changes nothing, where it is not there."""
        blocks, lasts = self.blocks, self._lasts
        at = bisect_left(lasts, number)
        if at == len(blocks):
            raise KeyError(number)
        block = blocks[at]
        place = bisect_left(block, number)
        if block[place] != number:
            raise KeyError(number)
        del block[place]
        self.count -= 1
        if block:
            lasts[at] = block[-1]
        else:
            del blocks[at], lasts[at]
