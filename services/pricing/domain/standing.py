"""How things stand for one model: its pool, what its nodes ask, what the market asks, how soon clusters got ready."""

from bisect import bisect_left

import msgspec

from wire.values import BandwidthTier


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """A competitor's newest rate for a class, and his last one before it (0: none)."""

    partner: str
    source: str
    tier: BandwidthTier
    hourly_micros: int
    observed_at: int
    before_micros: int = 0
    before_at: int = 0


class Asks(msgspec.Struct, frozen=True):
    """What the free nodes of a model want per unit and hour, ascending, with how many want at most that."""

    micros: tuple[int, ...] = ()
    nodes_up_to: tuple[int, ...] = ()

    def of_cheapest(self, nodes: int) -> int:
        """The highest ask among the cheapest `nodes` (all of them, where there are fewer); 0 without any."""
        if not self.micros:
            return 0
        return self.micros[min(bisect_left(self.nodes_up_to, nodes), len(self.micros) - 1)]


class Ready(msgspec.Struct, frozen=True):
    """From the order to the ready cluster, as measured."""

    p50_ms: int
    p90_ms: int
    samples: int


SURGE_WHOLE = 1_000_000
"""Surge is kept in millionths of the price without it."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    total: int = 0
    used: int = 0
    surge: int = SURGE_WHOLE
    asks: Asks = Asks()
    rates: tuple[Rate, ...] = ()
    ready: Ready | None = None


EMPTY = Standing()
