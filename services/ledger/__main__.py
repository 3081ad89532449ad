"""Starts the ledger."""

from typing import Any

from libs.bus.serve import run
from libs.bus.service import Service
from libs.settings import load
from services.ledger.answers import refuse_query
from services.ledger.handlers import ANSWERS, EVERY, HANDLES, refuse
from services.ledger.settings import Settings
from services.ledger.store import Rows


def service(settings: Settings) -> Service:
    def rows(connection: Any, now: int, cause_id: str) -> Rows:
        return Rows(connection, now, cause_id, settings)

    return Service(
        name="ledger",
        migrations="services.ledger",
        rows=rows,
        handles=HANDLES,
        answers=ANSWERS,
        every=EVERY,
        refuse=refuse,
        refuse_query=refuse_query,
        keep_days=0,  # every transfer's event stays in the outbox (I10)
    )


if __name__ == "__main__":
    settings = load(Settings)
    run(service(settings), settings)
