"""What a factor is, and what it may look at."""

from typing import NamedTuple

import msgspec

from services.pricing.domain.base import Card
from services.pricing.domain.policy import Policy
from services.pricing.domain.standing import Standing
from wire.values import ClusterRequest


class Factor(NamedTuple):
    """A line of a quote before it has an amount: the price becomes `price × numerator // denominator`."""

    name: str
    why: str
    numerator: int = 1
    denominator: int = 1


class Asked(msgspec.Struct, frozen=True):
    """A request with what its price follows from: its model, the time, the pool and the market, the settings."""

    request: ClusterRequest
    card: Card
    at: int
    standing: Standing
    policy: Policy

    @property
    def plain(self) -> bool:
        """Whether a competitor's rate for this model and tier is for the same thing: nothing more is asked for."""
        wanted = self.request
        return not (
            wanted.cpu_model
            or wanted.cpu_mhz_min
            or wanted.cpu_cores_min
            or wanted.memory_mb_min
            or wanted.disk != "any"
            or wanted.reputation_millis_min
        )


def percent(permille: int) -> str:
    """What a price in thousandths adds, for people: 1225 is +22.5 %."""
    added = permille - 1000
    return f"{'-' if added < 0 else '+'}{abs(added) // 10}.{abs(added) % 10} %"


def dollars(micros: int) -> str:
    return f"{micros // 10**6}.{micros % 10**6:06d} USD"
