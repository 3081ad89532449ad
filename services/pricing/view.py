"""How things stand for every model, as of a moment ago: read from the rows once for many prices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from services.pricing.domain.standing import EMPTY, Asks, Rate, Ready, Standing

if TYPE_CHECKING:
    from services.pricing.store import Rows


class View:
    """Whoever needs it when it is older than `keep_ms` reads it anew; meanwhile others take the old one."""

    def __init__(self, keep_ms: int) -> None:
        self._keep_ms = keep_ms
        self._standings: Mapping[str, Standing] | None = None
        self._read_at = 0
        self._reading = False

    async def standing(self, model: str, rows: Rows) -> Standing:
        return (await self.standings(rows)).get(model, EMPTY)

    async def standings(self, rows: Rows) -> Mapping[str, Standing]:
        if self._standings is not None and (self._reading or 0 <= rows.now - self._read_at < self._keep_ms):
            return self._standings
        self._reading = True
        try:
            found = await _read(rows)
        finally:
            self._reading = False
        if rows.now >= self._read_at:
            self._standings, self._read_at = found, rows.now
        return found


async def _read(rows: Rows) -> Mapping[str, Standing]:
    pool, surges, ready = list(await rows.pool()), await rows.surges(), await rows.ready_times()
    asks, rates = _asks(pool), _rates(await rows.rates())
    used, total = Counter[str](), Counter[str]()
    for model, _, leased, nodes in pool:
        total[model] += nodes
        used[model] += nodes if leased else 0
    times = {model: Ready(p50, p90, samples) for model, p50, p90, samples in ready}
    return {
        model: Standing(
            total=total[model],
            used=used[model],
            surge=surges[model].level if model in surges else EMPTY.surge,
            asks=asks.get(model, EMPTY.asks),
            rates=tuple(rates.get(model, ())),
            ready=times.get(model),
        )
        for model in {*total, *surges, *times, *rates}
    }


def _asks(pool: Iterable[tuple[str, int, bool, int]]) -> Mapping[str, Asks]:
    """Of the free nodes, asks ascending, with how many of the model want at most that."""
    micros: dict[str, list[int]] = {}
    up_to: dict[str, list[int]] = {}
    for model, ask, leased, nodes in pool:
        if not leased:
            before = up_to[model][-1] if model in up_to else 0
            micros.setdefault(model, []).append(ask)
            up_to.setdefault(model, []).append(before + nodes)
    return {model: Asks(tuple(micros[model]), tuple(up_to[model])) for model in micros}


def _rates(kept: Iterable[tuple[str, Rate]]) -> Mapping[str, list[Rate]]:
    found: dict[str, list[Rate]] = {}
    for model, rate in kept:
        found.setdefault(model, []).append(rate)
    return found
