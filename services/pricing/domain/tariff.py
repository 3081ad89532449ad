"""A tariff: the models that have a price, and the settings by which prices are made."""

from dataclasses import dataclass, field

from services.pricing.domain.base import CATALOGUE, Catalogue
from services.pricing.domain.policy import Policy


@dataclass(frozen=True)
class Tariff:
    cards: Catalogue = field(default_factory=lambda: CATALOGUE)
    policy: Policy = field(default_factory=Policy)


STANDARD = Tariff()
