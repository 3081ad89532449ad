"""Starts pricing."""

from typing import Any

from libs.bus.serve import run
from libs.bus.service import Service
from libs.cache import connect
from libs.settings import SettingsError, load
from services.pricing.handlers import ANSWERS, EFFECTS, HANDLES, refuse_query
from services.pricing.kept_quotes import KeptQuotes
from services.pricing.settings import Settings
from services.pricing.store import Rows


def service(settings: Settings) -> Service:
    if not settings.valkey_url:
        raise SettingsError("BIVOUAC_VALKEY_URL is not set: pricing keeps its quotes there.")
    quotes = KeptQuotes(connect(settings.valkey_url), settings.quote_valid_seconds + settings.quote_grace_seconds)

    def rows(connection: Any, now: int, cause_id: str) -> Rows:
        return Rows(connection, now, cause_id, settings, quotes)

    return Service(
        name="pricing",
        migrations="services.pricing",
        rows=rows,
        handles=HANDLES,
        answers=ANSWERS,
        effects=EFFECTS,
        refuse_query=refuse_query,
    )


if __name__ == "__main__":
    settings = load(Settings)
    run(service(settings), settings)
