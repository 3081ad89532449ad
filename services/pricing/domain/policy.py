"""What an operator can set about prices: every number that no proposal fixes, with its default; all integers.

Read from the environment by its name: BIVOUAC_SURGE_MAX_PERMILLE and so on.
"""

from functools import lru_cache
from typing import Annotated

import msgspec

Permille = Annotated[int, msgspec.Meta(ge=0, le=1000)]
Price = Annotated[int, msgspec.Meta(ge=1000, le=10_000, description="Thousandths of the price without it.")]
Minutes = Annotated[int, msgspec.Meta(ge=-14 * 60, le=14 * 60)]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=30 * 86_400)]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Premiums in thousandths, prices in micro-USD; tables are written like `US=1050,DE=1100`."""

    minima_matched: str = ""
    """Which minima of a request matching sees to, such as `cpu_cores_min,disk`: what nobody sees to is not sold."""

    cpu_model_table: str = "EPYC=1050,Threadripper=1050,Xeon=1030"
    """Price of asking for a processor whose name has this word; of any other 1000."""
    cpu_mhz_free: Annotated[int, msgspec.Meta(ge=1, le=20_000)] = 3000
    """Up to this clock, that of RNP-004's reference reading, asking costs nothing."""
    cpu_permille_per_100_mhz: Permille = 10
    cpu_cores_free: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 8
    """Per GPU asked for."""
    cpu_permille_per_core: Permille = 10
    memory_gb_free: Annotated[int, msgspec.Meta(ge=0, le=10**6)] = 32
    """Per GPU asked for."""
    memory_permille_per_gb: Permille = 2
    hardware_price_max: Price = 1250
    """The most that each of clock, cores and memory makes of a price."""
    disk_ssd_price: Price = 1020
    disk_nvme_price: Price = 1050
    reputation_permille_at_full: Permille = 100
    """What asking for a reputation of 1.0 adds; less asks add in proportion."""

    location_table: str = ""
    """Price by country; of any other, and where no country is asked for, 1000."""
    utc_offset_table: str = ""
    """Minutes by country, over the table of peak_hours."""
    peak_first_hour: Annotated[int, msgspec.Meta(ge=0, le=23)] = 18
    peak_hours: Annotated[int, msgspec.Meta(ge=0, le=24)] = 4
    peak_price: Price = 1100

    surge_from_permille: Permille = 700
    """The use of a model's pool at which its price begins to rise."""
    surge_full_permille: Permille = 950
    surge_price_max: Price = 1500
    surge_band_permille: Permille = 150
    """So far use must fall back before the price follows it down."""
    surge_settle_seconds: Seconds = 600
    """Time constant of the mean of use that surge follows."""
    surge_nodes_min: Annotated[int, msgspec.Meta(ge=1, le=10**6)] = 10
    """In a smaller pool one booking is most of the use, which tells nothing of demand."""

    market_discount_permille: Permille = 50
    """So far below the lowest competitor."""
    market_age_seconds: Seconds = 6 * 3600
    market_sources_min: Annotated[int, msgspec.Meta(ge=1, le=100)] = 2
    market_feeds_trusted: str = ""
    """Partners whose feeds count source by source; all sources of any other partner together count as one."""
    market_jump_times: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 10
    """A rate that differs so many times from the source's last one, or from the break-even price, is absurd."""
    market_tops_surge: bool = True
    """Whether surge and other premiums stop at the discounted market price of the same class."""

    power_micros_per_kwh: Annotated[int, msgspec.Meta(ge=0, le=10**7)] = 150_000
    use_assumed_permille: Permille = 500
    """The use of a model that nobody in the pool has, in tables of earnings."""
    render_price_micros: Annotated[int, msgspec.Meta(ge=0, le=10**12)] = 0
    """USD for one RENDER in tables of earnings; 0: not shown."""
    ready_samples_min: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 5
    """Fewer clusters than this say nothing of how soon the next is ready."""

    def __post_init__(self) -> None:
        parsed(self.cpu_model_table, 1000, 10_000)
        parsed(self.location_table, 500, 10_000)
        parsed(self.utc_offset_table, -14 * 60, 14 * 60)
        if self.surge_from_permille >= self.surge_full_permille:
            raise ValueError("surge_from_permille must be below surge_full_permille")
        unknown = self.matched - MINIMA
        if unknown:
            raise ValueError(f"minima_matched knows {', '.join(sorted(MINIMA))}, not {', '.join(sorted(unknown))}")

    @property
    def matched(self) -> frozenset[str]:
        return _words(self.minima_matched)

    @property
    def trusted(self) -> frozenset[str]:
        return _words(self.market_feeds_trusted)


MINIMA = frozenset({"cpu_model", "cpu_mhz_min", "cpu_cores_min", "memory_mb_min", "disk", "reputation_millis_min"})
"""What a request can ask of a node beyond its model, tier and country; matching has to see to it."""


@lru_cache(maxsize=64)
def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip())


@lru_cache(maxsize=64)
def parsed(table: str, least: int, most: int) -> dict[str, int]:
    """`US=1050,DE=1100` as a mapping; raises ValueError with one sentence."""
    found = {}
    for row in filter(None, (part.strip() for part in table.split(","))):
        name, equals, number = row.partition("=")
        if not equals or not number.strip().lstrip("-").isdecimal() or not least <= int(number) <= most:
            raise ValueError(f"{row!r} is not NAME=NUMBER with a number of {least} to {most}")
        found[name.strip()] = int(number)
    return found
