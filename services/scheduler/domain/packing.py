"""Which node with room takes a request that needs a part of one: the rule that keeps what is left over usable.

The room for a kind of request is the GPUs that are free on nodes which can take it now: enough GPUs left, processor
and memory beside them, the right model. A request goes where it takes the smallest share of the room for what is
usually asked, each kind counted by the GPUs it asked for so far. So what is scarce costs most: a whole node is not
broken while a begun one will do, processors beside free GPUs are left to them, and a model that others insist on is
left to those. Where several nodes cost the same, the fullest is taken.
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
MODELS = 63
"""Models are numbers below this one."""
_ANY = (1 << MODELS) - 1
_Kind = tuple[int, tuple[int, ...], int, int]
_GRAIN = 1e-12  # below it a difference is one of rounding


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a request needs of one node; `models` that will do, empty for any."""

    gpus: int
    cpu_milli: int
    memory_mib: int
    models: frozenset[int] = frozenset()


class Room(NamedTuple):
    """What is free on each node, and its model: columns of one length."""

    gpus: Numbers
    cpu_milli: Numbers
    memory_mib: Numbers
    model: Numbers

    def fits(self, need: Need) -> NDArray[np.bool_]:
        enough = (self.gpus >= need.gpus) & (self.cpu_milli >= need.cpu_milli) & (self.memory_mib >= need.memory_mib)
        return np.asarray(enough & (_mask(need) >> self.model & 1).astype(bool))

    def at(self, nodes: Any) -> "Room":
        return Room(*(column[nodes] for column in self))

    def less(self, need: Need) -> "Room":
        """Every node as it would be with the request on it."""
        gpus, cpu = self.gpus - need.gpus, self.cpu_milli - need.cpu_milli
        return Room(gpus, cpu, self.memory_mib - need.memory_mib, self.model)


class Demand(NamedTuple):
    """What is usually asked: the commonest kinds of needs, and the share of the GPUs asked for that each of them is."""

    kinds: tuple[Need, ...] = ()
    shares: tuple[float, ...] = ()

    @classmethod
    def of(cls, needs: Iterable[Need]) -> "Demand":
        """Needs of the same GPUs and about the same else, to a factor of two, are a kind, and stand for its largest."""
        asked: Counter[_Kind] = Counter()
        largest: dict[_Kind, Need] = {}
        for need in needs:
            if need.gpus:
                kind = (
                    need.gpus,
                    tuple(sorted(need.models)),
                    need.cpu_milli.bit_length(),
                    need.memory_mib.bit_length(),
                )
                asked[kind] += need.gpus
                largest[kind] = _larger(largest.get(kind, need), need)
        common = sorted(asked, key=lambda kind: (-asked[kind], kind))[:KINDS]
        return cls(tuple(largest[kind] for kind in common), tuple(asked[kind] / asked.total() for kind in common))


def usable(room: Room, demand: Demand) -> Numbers:
    """GPUs of each node (columns) that each kind of request (rows) could have."""

    def column(numbers: list[int]) -> Numbers:
        return np.array(numbers, np.int64)[:, None]

    kinds = demand.kinds
    fits = (room.gpus >= column([kind.gpus for kind in kinds])) & (
        room.cpu_milli >= column([kind.cpu_milli for kind in kinds])
    )
    fits &= room.memory_mib >= column([kind.memory_mib for kind in kinds])
    fits &= (column([_mask(kind) for kind in kinds]) >> room.model & 1).astype(bool)
    return np.where(fits, room.gpus, 0)


def cost(need: Need, room: Room, nodes: Numbers, demand: Demand) -> NDArray[np.float64]:
    """For each of these nodes, the share of the room for what is usually asked that the request would take there."""
    before = usable(room, demand)
    whole = before.sum(axis=1)
    lost = before[:, nodes] - usable(room.at(nodes).less(need), demand)
    price = np.array(demand.shares) / np.maximum(whole, 1)
    return np.asarray(price @ lost, np.float64)


def choose(need: Need, room: Room, demand: Demand) -> int | None:
    """The node that takes the request, or None where none can; of equals the first."""
    nodes = np.flatnonzero(room.fits(need))
    if not len(nodes):
        return None
    costs = cost(need, room, nodes, demand)
    least = nodes[costs <= costs.min() + _GRAIN]
    return int(least[fullest(room.at(least))])


def fullest(room: Room) -> int:
    """The node with the fewest GPUs free, then the least processor: what best-fit takes."""
    return int(np.lexsort((room.cpu_milli, room.gpus))[0])


def _mask(need: Need) -> int:
    """A bit for each model that will do."""
    return sum(1 << model for model in need.models) or _ANY


def _larger(one: Need, other: Need) -> Need:
    cpu, memory = max(one.cpu_milli, other.cpu_milli), max(one.memory_mib, other.memory_mib)
    return msgspec.structs.replace(one, cpu_milli=cpu, memory_mib=memory)
