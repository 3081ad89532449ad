"""What can be set on the ledger, besides the bus."""

from typing import Annotated

import msgspec

from libs.settings import BusSettings
from services.ledger.domain import emission
from services.ledger.domain.emission import Emission

Micros = Annotated[int, msgspec.Meta(ge=0, le=10**17)]


class Settings(BusSettings, frozen=True, kw_only=True):
    """Read from BIVOUAC_RENDER_USD_MICROS and so on."""

    render_usd_micros: Annotated[int, msgspec.Meta(ge=10_000, le=10**12)] = 4_000_000
    """What one RENDER costs, in micro-USD: the price at which the market buys what is burned."""

    epoch_seconds: Annotated[int, msgspec.Meta(ge=0, le=366 * 86_400)] = 0
    """How long an epoch runs; 0: until an operator closes it."""

    epoch_emission: Annotated[int, msgspec.Meta(ge=0, le=10**15)] = 0
    """Base units of RENDER (8 decimals) that each epoch emits; 0: RNP-001's schedule, 190,141.75 RENDER in year 1."""

    availability_ppm: Annotated[int, msgspec.Meta(ge=0, le=10**6)] = 100_000
    """Millionths of an epoch's emission that are set aside for availability; the rest is RNP-004's E_t."""

    epoch_render_usd_micros: Micros = 70_000 * 10**6
    """U_render: micro-USD of Octane rendering in an epoch, which happens outside this network (RNP-004's example)."""

    def emission(self, epoch: int) -> Emission:
        """What an epoch that opens now may emit."""
        return emission.split(self.epoch_emission or emission.scheduled(epoch), self.availability_ppm)
