"""What can be set on pricing, besides the bus."""

from typing import Annotated

import msgspec

from libs.settings import BusSettings


class Settings(BusSettings, frozen=True, kw_only=True):
    """Read from BIVOUAC_QUOTE_VALID_SECONDS and BIVOUAC_QUOTE_GRACE_SECONDS; BIVOUAC_VALKEY_URL is needed."""

    quote_valid_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 300
    """How long a quote holds: an order placed within it gets its price."""

    quote_grace_seconds: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 600
    """How long a quote is kept beyond that, so that an order placed in time and delivered late still gets it."""
