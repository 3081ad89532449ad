"""Bandwidth tiers: which one a line reaches, and what each adds to the base price (RNP-004)."""

from dataclasses import dataclass

from wire.values import BandwidthTier

PING_MS_MAX = 100


@dataclass(frozen=True)
class Tier:
    """A row of RNP-004's table; `permille` is the price in thousandths of the base price."""

    tier: BandwidthTier
    published_name: str
    mb_s_min: int
    permille: int


TIERS = (
    Tier(BandwidthTier.low_1, "Low I", 25, 1000),
    Tier(BandwidthTier.low_2, "Low II", 50, 1050),
    Tier(BandwidthTier.med_1, "Med I", 100, 1100),
    Tier(BandwidthTier.med_2, "Med II", 200, 1150),
    Tier(BandwidthTier.med_3, "Med III", 300, 1200),
    Tier(BandwidthTier.high_1, "High I", 400, 1225),
    Tier(BandwidthTier.high_2, "High II", 500, 1255),
    Tier(BandwidthTier.ultra, "Ultra High", 1000, 1500),
)
_BY_TIER = {row.tier: row for row in TIERS}


def tier_of(tier: BandwidthTier) -> Tier:
    return _BY_TIER[tier]


def classify(down_mb_s: float, up_mb_s: float, ping_ms: float) -> BandwidthTier | None:
    """The highest tier that download and upload (MB/s) both reach; None below the lowest or with a ping above 100 ms.

    A reading that is not a number reaches nothing.
    """
    if not 0 <= ping_ms <= PING_MS_MAX:
        return None
    reached = [row.tier for row in TIERS if down_mb_s >= row.mb_s_min and up_mb_s >= row.mb_s_min]
    return reached[-1] if reached else None
