"""Starts reputation."""

from typing import Any

from libs.bus.reach import Reach
from libs.bus.serve import run
from libs.bus.service import Service
from libs.cache import connect
from libs.settings import load
from services.reputation.board import Board
from services.reputation.board_keeper import BoardKeeper
from services.reputation.handlers import ANSWERS, EVERY, HANDLES, refuse_query
from services.reputation.settings import Settings
from services.reputation.store import Rows


def service(settings: Settings) -> Service:
    board = Board(connect(settings.valkey_url)) if settings.valkey_url else None

    def rows(connection: Any, now: int, cause_id: str) -> Rows:
        return Rows(connection, now, cause_id, settings, board)

    async def keep(reach: Reach) -> None:
        if board:
            await BoardKeeper(board, reach, settings.board_seconds, settings.board_rebuild_seconds).run()

    return Service(
        name="reputation",
        migrations="services.reputation",
        rows=rows,
        handles=HANDLES,
        answers=ANSWERS,
        every=EVERY,
        background=[keep] if board else [],
        refuse_query=refuse_query,
    )


if __name__ == "__main__":
    settings = load(Settings)
    run(service(settings), settings)
