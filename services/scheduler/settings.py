"""What can be set on the scheduler, besides the bus."""

from typing import Annotated

import msgspec

from libs.settings import BusSettings
from services.scheduler.domain.booking import Limits
from services.scheduler.domain.liveness import Rules

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class Settings(BusSettings, frozen=True, kw_only=True):
    """BIVOUAC_HOLD_SECONDS           how long a gang is held for an escrow that is not funded
    BIVOUAC_START_SECONDS          how long a price may take to be found, and a cluster or a node to start
    BIVOUAC_START_FAILURES_MAX     after how many failed starts a cluster is given up
    BIVOUAC_GRACE_SECONDS          how long a node may be without a connection that the server closed
    BIVOUAC_SILENCE_SECONDS        how long a node may be without a heartbeat
    BIVOUAC_BEGIN_GRACE_SECONDS    how long everybody has to be heard after we, or the server, came back
    """

    hold_seconds: Seconds = 60.0
    start_seconds: Seconds = 120.0
    start_failures_max: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 5
    grace_seconds: Seconds = 0.75
    silence_seconds: Seconds = 15.0
    begin_grace_seconds: Seconds = 12.0

    def limits(self) -> Limits:
        return Limits(
            hold_ms=int(self.hold_seconds * 1000),
            start_ms=int(self.start_seconds * 1000),
            failures_max=self.start_failures_max,
        )

    def rules(self) -> Rules:
        return Rules(
            grace_ms=int(self.grace_seconds * 1000),
            silence_ms=int(self.silence_seconds * 1000),
            begin_grace_ms=int(self.begin_grace_seconds * 1000),
        )
