"""What can be set on reputation, besides the bus; weights are in thousandths of one passed test job."""

from typing import Annotated

import msgspec

from libs.settings import BusSettings
from services.reputation.domain.evidence import Millis, Weights

DAY_MS = 86_400_000


class Settings(BusSettings, frozen=True, kw_only=True):
    """Read from BIVOUAC_HALF_LIFE_DAYS and so on; without BIVOUAC_VALKEY_URL ranks are counted in PostgreSQL."""

    half_life_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 30
    """After so many days evidence weighs half."""

    probe_passed_millis: Millis = Weights().probe_passed
    probe_wrong_millis: Millis = Weights().probe_wrong
    probe_unanswered_millis: Millis = Weights().probe_unanswered
    probe_slow_millis: Millis = Weights().probe_slow
    lease_hour_millis: Millis = Weights().lease_hour
    """Good, per hour of a lease served to its end."""
    lease_most_millis: Millis = Weights().lease_most
    """Good, at most, from one lease."""
    lease_broken_millis: Millis = Weights().lease_broken
    lease_unstarted_millis: Millis = Weights().lease_unstarted
    lost_idle_millis: Millis = Weights().lost_idle

    rescore_seconds: Annotated[int, msgspec.Meta(ge=1)] = 3600
    """A score is computed anew after this time even if nothing happened, because evidence decays."""
    rescore_nodes: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    """At most so many nodes in one round."""
    board_seconds: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """How often the rank board is brought up to date."""
    board_rebuild_seconds: Annotated[float, msgspec.Meta(gt=0)] = 600.0
    """How often it is built anew as a whole."""

    @property
    def half_life_ms(self) -> int:
        return self.half_life_days * DAY_MS

    def weights(self) -> Weights:
        return Weights(
            probe_passed=self.probe_passed_millis,
            probe_wrong=self.probe_wrong_millis,
            probe_unanswered=self.probe_unanswered_millis,
            probe_slow=self.probe_slow_millis,
            lease_hour=self.lease_hour_millis,
            lease_most=self.lease_most_millis,
            lease_broken=self.lease_broken_millis,
            lease_unstarted=self.lease_unstarted_millis,
            lost_idle=self.lost_idle_millis,
        )
