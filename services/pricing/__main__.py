"""Starts pricing."""

from pathlib import Path
from typing import Any

from libs.bus.serve import run
from libs.bus.service import Service
from libs.cache import connect
from libs.settings import SettingsError, load
from services.pricing.answers import refuse_query
from services.pricing.domain.base import CATALOGUE, with_added
from services.pricing.domain.policy import Policy
from services.pricing.domain.tariff import Tariff
from services.pricing.handlers import ANSWERS, EFFECTS, EVERY, HANDLES, refuse
from services.pricing.kept_quotes import KeptQuotes
from services.pricing.settings import Settings
from services.pricing.store import Rows
from services.pricing.view import View


def service(settings: Settings, policy: Policy | None = None) -> Service:
    if not settings.valkey_url:
        raise SettingsError("BIVOUAC_VALKEY_URL is not set: pricing keeps its quotes there.")
    quotes = KeptQuotes(connect(settings.valkey_url), settings.quote_valid_seconds + settings.quote_grace_seconds)
    priced, view = tariff(settings, policy or Policy()), View(settings.view_ms)

    def rows(connection: Any, now: int, cause_id: str) -> Rows:
        return Rows(connection, now, cause_id, settings, priced, quotes, view)

    return Service(
        name="pricing",
        migrations="services.pricing",
        rows=rows,
        handles=HANDLES,
        answers=ANSWERS,
        effects=EFFECTS,
        every=EVERY,
        refuse=refuse,
        refuse_query=refuse_query,
    )


def tariff(settings: Settings, policy: Policy) -> Tariff:
    """The catalogue, with the operator's own models, and his settings."""
    if not settings.models_file:
        return Tariff(policy=policy)
    try:
        text = Path(settings.models_file).read_text(encoding="utf-8")
        return Tariff(with_added(CATALOGUE, text), policy)
    except (OSError, ValueError) as error:
        raise SettingsError(f"BIVOUAC_MODELS_FILE names {settings.models_file}: {error}") from None


if __name__ == "__main__":
    settings = load(Settings)
    run(service(settings, load(Policy)), settings)
