"""A tariff: the models that have a price, and the settings by which prices are made."""

import msgspec

from services.pricing.domain.base import CATALOGUE, Catalogue
from services.pricing.domain.policy import Policy


class Tariff(msgspec.Struct, frozen=True):
    cards: Catalogue = CATALOGUE
    policy: Policy = Policy()


STANDARD = Tariff()
