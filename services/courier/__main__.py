"""Starts the courier."""

from libs.bus.reach import Reach
from libs.bus.serve import run
from libs.bus.service import Service
from libs.settings import load
from services.courier.handlers import EFFECTS, HANDLES
from services.courier.log_relay import LogRelay
from services.courier.settings import Settings
from services.courier.store import Rows


def service(settings: Settings) -> Service:
    async def carry_logs(reach: Reach) -> None:
        await LogRelay(reach, settings.log_messages_per_second).run()

    return Service(
        name="courier",
        migrations="services.courier",
        rows=Rows,
        handles=HANDLES,
        effects=EFFECTS,
        background=[carry_logs],
    )


if __name__ == "__main__":
    settings = load(Settings)
    run(service(settings), settings)
