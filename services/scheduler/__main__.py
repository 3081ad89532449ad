"""Starts the scheduler."""

from functools import partial

from libs.bus.serve import run
from libs.bus.service import Service
from libs.settings import load
from services.scheduler.handlers import ANSWERS, EVERY, HANDLES
from services.scheduler.liveness import Liveness
from services.scheduler.refusals import refuse_query, turn_away
from services.scheduler.settings import Settings
from services.scheduler.store import Rows
from wire.node import Heartbeat


def service(settings: Settings) -> Service:
    liveness = Liveness(settings)
    return Service(
        name="scheduler",
        migrations="services.scheduler",
        rows=partial(Rows, limits=settings.limits(), last_seen=liveness.last_seen),
        handles=HANDLES,
        answers=ANSWERS,
        every=EVERY,
        hears={Heartbeat: liveness.hear},
        background=[liveness.watch],
        refuse=turn_away,
        refuse_query=refuse_query,
        owns=("booking", "job"),
    )


if __name__ == "__main__":
    settings = load(Settings)
    run(service(settings), settings)
