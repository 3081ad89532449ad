"""Which node with room takes a request that needs a part of one: the rule that keeps what is left over usable.

A free GPU is stranded for a kind of request when its node cannot take that kind: too few GPUs left, too little
processor or memory beside them, another model. A request goes where it strands the fewest GPUs for what is usually
asked, each kind counted as often as it came: the gradient of the fragmentation of "Beware of Fragmentation" (USENIX
ATC 2023) with the requests seen so far in place of a known demand. Where several nodes strand as few, the fullest is
taken, so that whole nodes stay free for those who need whole nodes.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
KINDS = 256
"""How many kinds of requests are told apart; the rarest count for nothing."""
_Kind = tuple[int, tuple[str, ...], int, int]
_GRAIN = 1e-9  # below it a difference is one of rounding


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a request needs of one node; `models` that will do, empty for any."""

    gpus: int
    cpu_milli: int
    memory_mib: int
    models: frozenset[str] = frozenset()


class Room(NamedTuple):
    """What is free on each node, and its model: columns of one length."""

    gpus: Numbers
    cpu_milli: Numbers
    memory_mib: Numbers
    model: NDArray[np.str_]

    def fits(self, need: Need) -> NDArray[np.bool_]:
        enough = (self.gpus >= need.gpus) & (self.cpu_milli >= need.cpu_milli) & (self.memory_mib >= need.memory_mib)
        return enough & np.isin(self.model, list(need.models)) if need.models else enough

    def at(self, nodes: Any) -> "Room":
        return Room(*(column[nodes] for column in self))

    def less(self, need: Need) -> "Room":
        """Every node as it would be with the request on it."""
        gpus, cpu = self.gpus - need.gpus, self.cpu_milli - need.cpu_milli
        return Room(gpus, cpu, self.memory_mib - need.memory_mib, self.model)


class Demand(msgspec.Struct, frozen=True):
    """What is usually asked: the commonest kinds of needs, and the share of the requests that each of them is."""

    kinds: tuple[Need, ...] = ()
    shares: tuple[float, ...] = ()

    @classmethod
    def of(cls, needs: Iterable[Need]) -> "Demand":
        """Needs of the same GPUs and about the same else, to a factor of two, are a kind, and stand for its largest.

        Who needs no GPU finds none of them stranded, and does not count.
        """
        seen: Counter[_Kind] = Counter()
        largest: dict[_Kind, Need] = {}
        for need in needs:
            if need.gpus:
                kind = (
                    need.gpus,
                    tuple(sorted(need.models)),
                    need.cpu_milli.bit_length(),
                    need.memory_mib.bit_length(),
                )
                seen[kind] += 1
                largest[kind] = _larger(largest.get(kind, need), need)
        common = sorted(seen, key=lambda kind: (-seen[kind], kind))[:KINDS]
        return cls(tuple(largest[kind] for kind in common), tuple(seen[kind] / seen.total() for kind in common))


def stranded(room: Room, demand: Demand) -> NDArray[np.float64]:
    """GPUs of each node that are free and of no use, on average over what is asked; 0 where nothing is known."""
    useless = np.zeros(len(room.gpus))
    for kind, share in zip(demand.kinds, demand.shares, strict=True):
        useless += share * np.where(room.fits(kind), 0, room.gpus)
    return useless


def choose(need: Need, room: Room, demand: Demand) -> int | None:
    """The node that takes the request, or None where none can; of equals the first."""
    nodes = np.flatnonzero(room.fits(need))
    if not len(nodes):
        return None
    before = room.at(nodes)
    after = before.less(need)
    harm = stranded(after, demand) - stranded(before, demand)
    least = np.flatnonzero(harm <= harm.min() + _GRAIN)
    return int(nodes[least[fullest(after.at(least))]])


def fullest(room: Room) -> int:
    """The node with the fewest GPUs free, then the least processor: what best-fit takes."""
    return int(np.lexsort((room.cpu_milli, room.gpus))[0])


def _larger(one: Need, other: Need) -> Need:
    cpu, memory = max(one.cpu_milli, other.cpu_milli), max(one.memory_mib, other.memory_mib)
    return msgspec.structs.replace(one, cpu_milli=cpu, memory_mib=memory)
