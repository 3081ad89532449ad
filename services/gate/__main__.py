"""Starts the gate."""

from typing import Any

from libs.bus.reach import Reach
from libs.bus.serve import run
from libs.bus.service import Service
from libs.settings import load
from services.gate.doorkeeper import Doorkeeper
from services.gate.handlers import HANDLES, refuse
from services.gate.settings import Settings, operators_of
from services.gate.store import Rows


def service(settings: Settings) -> Service:
    operators = operators_of(settings.operators)

    def rows(connection: Any, now: int, cause_id: str) -> Rows:
        return Rows(connection, now, cause_id, operators)

    async def keep_the_door(reach: Reach) -> None:
        await Doorkeeper(reach, settings, operators).run()

    return Service(
        name="gate",
        migrations="services.gate",
        rows=rows,
        handles=HANDLES,
        background=[keep_the_door],
        refuse=refuse,
    )


if __name__ == "__main__":
    settings = load(Settings)
    run(service(settings), settings)
