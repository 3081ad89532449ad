"""What can be set on pricing, besides the bus; the numbers of the prices themselves are in `domain.policy`."""

from typing import Annotated

import msgspec

from libs.settings import BusSettings


class Settings(BusSettings, frozen=True, kw_only=True):
    """Read from BIVOUAC_QUOTE_VALID_SECONDS and so on; BIVOUAC_VALKEY_URL is needed."""

    quote_valid_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 300
    """How long a quote holds: an order placed within it gets its price."""

    quote_grace_seconds: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 600
    """How long a quote is kept beyond that, so that an order placed in time and delivered late still gets it."""

    models_file: str = ""
    """A JSON list of models beside those of the catalogue, each with msrp_cents or h200_tflops_percent; empty: none."""

    view_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 2000
    """So old the view of pool and market may be by which a price is made; 0: looked up for each price."""
