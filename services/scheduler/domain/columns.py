"""The fleet in columns, with the free nodes of every pool in the order in which they are chosen.

A pool is one combination of labels. Each change touches one pool, whatever the size of the fleet, and raises
`version`, so that a plan can say what it was made from. The order is that of `Listing.rank`: the lower bound of the
reputation, then what the node asks, then the smallest node, then the one leased longest ago (rotation), then the id.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from services.scheduler.domain.ranked import Ranked

_ROW_BITS, _ID_BYTES, _LEASED_BITS, _UNITS_BITS, _ASK_BITS = 32, 56, 46, 16, 62
_LEASED_AT = _ROW_BITS + 8 * _ID_BYTES
_UNITS_AT = _LEASED_AT + _LEASED_BITS
_ASK_AT = _UNITS_AT + _UNITS_BITS
_REPUTATION_AT = _ASK_AT + _ASK_BITS
ROW_MASK = (1 << _ROW_BITS) - 1
ABSENT, FREE, LEASED = 0, 1, 2
GIB = 1024
_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("model", np.int32),
    ("country", np.int32),
    ("tier", np.int8),
    ("gpus", np.int16),
    ("vram_mb", np.int32),
    ("reputation", np.int16),
    ("state", np.int8),
)


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A node that may be leased, or is. `ask` is in micro-USD for an hour of a unit, 0 where any price will do."""

    node_id: str
    model: str
    gpus: int = 1
    tier: int = 0
    country: str = "ZZ"
    vram_mb: int = 0
    reputation_millis: int = 50
    ask: int = 0
    last_leased_at: int = 0
    fence: int = 0
    free: bool = True

    @property
    def units(self) -> int:
        return max(self.gpus, 1)

    @property
    def rank(self) -> tuple[int, int, int, int, str]:
        """Ascending: the best node first."""
        return (-self.reputation_millis, self.ask, self.units, self.last_leased_at, self.node_id)


class Pool:
    """The free nodes that share these labels; VRAM counts in whole GiB here, because drivers report it differently."""

    __slots__ = ("country", "free", "tier", "units", "vram_gib")

    def __init__(self, listing: Listing) -> None:
        self.country = listing.country
        self.tier = listing.tier
        self.units = listing.units
        self.vram_gib = listing.vram_mb // GIB
        self.free = Ranked()


class Plan(msgspec.Struct, frozen=True, gc=False):
    """The nodes of a gang, best first, with their rows and fences as they were at that version of the fleet."""

    version: int
    model: str
    rows: tuple[int, ...]
    node_ids: tuple[str, ...]
    fences: tuple[int, ...]


class Stale(RuntimeError):
    """The fleet is not what a plan was made from; nothing has been leased."""


class Fleet:
    """Every node of the network that is in a pool, leased or free; what changes it is all below, nothing else does."""

    def __init__(self, listings: Iterable[Listing] = ()) -> None:
        self.version = 0
        self.rows: dict[str, int] = {}
        self.node_ids: list[str] = []
        self.pool_of: list[Pool] = []
        self.fences = array("q")
        self.columns = {name: np.zeros(1024, dtype) for name, dtype in _COLUMNS}
        self.pools: dict[str, dict[tuple[str, int, int, int], Pool]] = {}
        self.codes: dict[str, dict[str, int]] = {"model": {}, "country": {}}
        self.shape = 0  # how many pools there are: what is remembered about them holds until there is another one
        self._state = self._new_states(1024)
        self._asks = array("q")
        self._leased = array("q")
        self._fixed: list[int] = []  # a row's key but for the time of its last lease, which is what changes most
        self._keys: list[int] = []
        self._unused: list[int] = []
        self._load(listings)

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, node_id: str) -> bool:
        return node_id in self.rows

    def listing(self, node_id: str) -> Listing:
        row = self.rows[node_id]
        pool, number = self.pool_of[row], {name: int(column[row]) for name, column in self.columns.items()}
        return Listing(
            node_id=node_id,
            model=list(self.codes["model"])[number["model"]],
            gpus=number["gpus"],
            tier=pool.tier,
            country=pool.country,
            vram_mb=number["vram_mb"],
            reputation_millis=number["reputation"],
            ask=self._asks[row],
            last_leased_at=self._leased[row],
            fence=self.fences[row],
            free=number["state"] == FREE,
        )

    def admit(self, listing: Listing) -> None:
        """A node that comes, or all that is known of one that is there."""
        self.version += 1
        row = self.rows.get(listing.node_id)
        if row is not None and self._state[row] == FREE:
            self.pool_of[row].free.remove(self._keys[row])
        row = self._write(listing, row)
        if listing.free:
            self.pool_of[row].free.add(self._keys[row])

    def lose(self, node_id: str) -> None:
        """The node is in no pool any more; nothing where it was in none."""
        row = self.rows.pop(node_id, None)
        if row is None:
            return
        self.version += 1
        if self._state[row] == FREE:
            self.pool_of[row].free.remove(self._keys[row])
        self._state[row] = ABSENT
        self._unused.append(row)

    def lease(self, plan: Plan, now: int) -> None:
        """All nodes of the plan or, where one is not as it was planned, none: Stale. Each fence grows by one."""
        rows = plan.rows
        if plan.version != self.version:
            for row, node_id, fence in zip(rows, plan.node_ids, plan.fences, strict=True):
                if self.rows.get(node_id) != row or self._state[row] != FREE or self.fences[row] != fence:
                    raise Stale(f"{node_id} is not what it was in version {plan.version}")
        self.version += 1
        pool_of, fixed, keys, rotated = self.pool_of, self._fixed, self._keys, now << _LEASED_AT
        state, leased, fences = self._state, self._leased, self.fences
        for row in rows:
            pool_of[row].free.remove(keys[row])
            keys[row] = fixed[row] + rotated
            state[row] = LEASED
            leased[row] = now
            fences[row] += 1

    def free(self, node_ids: Iterable[str]) -> None:
        """Their leases are over; nothing for a node that is free, or in no pool."""
        self.version += 1
        known, state, pool_of, keys = self.rows, self._state, self.pool_of, self._keys
        for node_id in node_ids:
            row = known.get(node_id, -1)
            if row >= 0 and state[row] == LEASED:
                state[row] = FREE
                pool_of[row].free.add(keys[row])

    def rescore(self, node_id: str, reputation_millis: int) -> None:
        """A new lower bound of its reputation; nothing for a node in no pool."""
        if node_id in self.rows:
            self.admit(msgspec.structs.replace(self.listing(node_id), reputation_millis=reputation_millis))

    def _load(self, listings: Iterable[Listing]) -> None:
        """As admit, for many at once: each pool is sorted once."""
        found: defaultdict[Pool, list[int]] = defaultdict(list)
        for listing in listings:
            assert listing.node_id not in self.rows, "a node is listed once"
            row = self._write(listing, None)
            if listing.free:
                found[self.pool_of[row]].append(self._keys[row])
        for pool, keys in found.items():
            pool.free = Ranked(sorted(keys))

    def _write(self, listing: Listing, row: int | None) -> int:
        if row is None:
            row = self._unused.pop() if self._unused else self._new_row()
            self.rows[listing.node_id] = row
        pool = self._pool(listing)
        self.node_ids[row] = listing.node_id
        self.pool_of[row] = pool
        self.fences[row], self._asks[row], self._leased[row] = listing.fence, listing.ask, listing.last_leased_at
        self._fixed[row] = _fixed(listing, row)
        self._keys[row] = self._fixed[row] + (listing.last_leased_at << _LEASED_AT)
        models, countries = self.codes["model"], self.codes["country"]
        values = (
            models.setdefault(listing.model, len(models)),
            countries.setdefault(listing.country, len(countries)),
            listing.tier,
            listing.gpus,
            listing.vram_mb,
            listing.reputation_millis,
            FREE if listing.free else LEASED,
        )
        for column, value in zip(self.columns.values(), values, strict=True):
            column[row] = value
        return row

    def _new_row(self) -> int:
        row = len(self.node_ids)
        if row == len(self._state):
            for name, column in self.columns.items():
                self.columns[name] = np.concatenate([column, np.zeros_like(column)])
            self._state = self._new_states(2 * row)
        self.node_ids.append("")
        self.pool_of.append(None)  # type: ignore[arg-type]  # written before anybody reads it
        self._fixed.append(0)
        self._keys.append(0)
        for numbers in (self.fences, self._asks, self._leased):
            numbers.append(0)
        return row

    def _pool(self, listing: Listing) -> Pool:
        pools = self.pools.setdefault(listing.model, {})
        labels = (listing.country, listing.tier, listing.units, listing.vram_mb // GIB)
        if labels not in pools:
            pools[labels] = Pool(listing)
            self.shape += 1
        return pools[labels]

    def _new_states(self, count: int) -> bytearray:
        """The column `state` once more, as bytes: one by one they are read far faster than through NumPy."""
        states = bytearray(self.columns["state"].tobytes().ljust(count, b"\0"))
        self.columns["state"] = np.frombuffer(states, np.int8)
        return states


def worst_key(reputation_millis_min: int) -> int:
    """Every key of a node with at least that reputation is below it."""
    return (1000 - reputation_millis_min + 1) << _REPUTATION_AT


def _fixed(listing: Listing, row: int) -> int:
    """The rank as one number, compared in nanoseconds; the row in its last bits says whose it is."""
    name = listing.node_id.encode()
    assert len(name) <= _ID_BYTES and 0 <= listing.reputation_millis <= 1000
    assert 0 <= listing.ask < 1 << _ASK_BITS and listing.units < 1 << _UNITS_BITS
    assert 0 <= listing.last_leased_at < 1 << _LEASED_BITS
    return (
        (1000 - listing.reputation_millis) << _REPUTATION_AT
        | listing.ask << _ASK_AT
        | listing.units << _UNITS_AT
        | int.from_bytes(name.ljust(_ID_BYTES, b"\0"), "big") << _ROW_BITS
        | row
    )
