"""Starts the prober."""

from libs.bus.reach import Reach
from libs.bus.serve import run
from libs.bus.service import Service
from libs.settings import load
from services.prober.examiner import Examiner
from services.prober.handlers import HANDLES
from services.prober.settings import Settings
from services.prober.store import Rows


def service(settings: Settings) -> Service:
    async def examine(reach: Reach) -> None:
        await Examiner(reach, settings).run()

    return Service(name="prober", migrations="services.prober", rows=Rows, handles=HANDLES, background=[examine])


if __name__ == "__main__":
    settings = load(Settings)
    run(service(settings), settings)
