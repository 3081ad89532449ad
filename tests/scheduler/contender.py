"""One of two schedulers that book the same few nodes as fast as they can; run as a process by test_two_schedulers.

    python -m tests.scheduler.contender URL NAME ROUNDS MODE

MODE `locked` is the scheduler as it is; `unlocked` has no lock around decisions, so that only the schema and the fence
guard the nodes; `unguarded` leaves out the fence too. Prints how many bookings it held and how many plans were void.
"""

import asyncio
import sys

import asyncpg
import msgspec

from libs import postgres
from services.scheduler import booking_rows
from services.scheduler.booking_rows import PlanConflict
from services.scheduler.domain.booking import State
from services.scheduler.handlers import HANDLES
from services.scheduler.store import Rows
from tests.scheduler import builders
from wire.booking import ReleaseBooking
from wire.message import Message


class UnlockedRows(Rows):
    async def _alone(self) -> None:
        """Nobody waits for anybody."""


async def main(url: str, name: str, rounds: str, mode: str) -> None:
    rows_class = Rows if mode == "locked" else UnlockedRows
    if mode == "unguarded":
        booking_rows._GRANT = booking_rows._GRANT.replace("AND nodes.fence = come.fence - 1", "")
    connection = await postgres.connect(url, name)
    held = void = 0

    async def feed(message: Message, cause: str) -> bool:
        try:
            async with connection.transaction():
                rows = rows_class(connection, builders.T0, cause)
                await HANDLES[type(message)](message.stamped(cause, builders.T0), rows)
                return True
        except (PlanConflict, asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError, asyncpg.RaiseError):
            # RaiseError: a fence that would have fallen, where the plan's own check of it is off
            return False

    for nth in range(int(rounds)):
        order = builders.order(f"{name}_{nth}", nodes=2)
        await feed(order, f"{name}/{nth}/place")
        if not await feed(builders.quoted(order), f"{name}/{nth}/quote"):
            void += 1
        booking = await Rows(connection, builders.T0, "look").peek_booking(order.partner, order.booking_id)
        assert booking is not None
        held += booking.state is State.held
        if not booking.over:
            await asyncio.sleep(0)
            await feed(ReleaseBooking(partner=order.partner, booking_id=order.booking_id), f"{name}/{nth}/release")
    print(msgspec.json.encode({"held": held, "void": void}).decode())
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
