"""Feeds messages to the real handlers on real rows, at a time of one's choosing, and keeps what is said."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import asyncpg

from libs import postgres
from libs.bus import outbox
from services.scheduler.domain.booking import Booking, Limits
from services.scheduler.fleet import lose_node
from services.scheduler.handlers import ANSWERS, HANDLES, end_overdue, fill_places
from services.scheduler.store import Rows
from tests.scheduler import builders
from wire.booking import BookingPlaced, ClusterReady, NodesHeld, PlaceBooking
from wire.message import Message, Query, Reply
from wire.node import StartRayNode

M = TypeVar("M", bound=Message)
R = TypeVar("R", bound=Reply)


class Driver:
    """One scheduler's transactions, one by one, and everything said so far."""

    def __init__(self, connection: asyncpg.Connection, limits: Limits) -> None:
        self.connection = connection
        self.limits = limits
        self.now = builders.T0
        self.said: list[Message] = []
        self._fed = 0

    async def work(self, task: Callable[[Rows], Awaitable[None]], cause_id: str = "") -> list[Message]:
        """A transaction; returns what it said."""
        self._fed += 1
        async with self.connection.transaction():
            rows = Rows(self.connection, self.now, cause_id or f"driver/{self._fed}", self.limits)
            await task(rows)
            await outbox.record(self.connection, [(rows, {})])
        self.said += rows.said
        return rows.said

    async def feed(self, *messages: Message) -> list[Message]:
        """Each in a transaction of its own; returns what they said together."""
        said: list[Message] = []
        for message in messages:
            self._fed += 1
            stamped = message.stamped(f"msg_{self._fed}", self.now)
            said += await self.work(lambda rows, m=stamped: HANDLES[type(m)](m, rows), stamped.id)  # type: ignore[misc]
        return said

    async def ask(self, query: Query) -> Reply:
        async with self.connection.transaction(readonly=True):
            return await ANSWERS[type(query)](query, Rows(self.connection, self.now, "ask", self.limits))

    async def wait(self, ms: int) -> list[Message]:
        """Time passes, then everything periodic has its turn."""
        self.now += ms
        return [*await self.work(end_overdue), *await self.work(fill_places)]

    async def join_nodes(self, *numbers: int, **changes: Any) -> None:
        await self.feed(*(builders.joined(number, **changes) for number in numbers))

    async def hold(self, order: PlaceBooking) -> NodesHeld:
        """Placed and priced."""
        said = await self.feed(order, builders.quoted(order))
        only(said, BookingPlaced)
        return only(said, NodesHeld)

    async def start(self, order: PlaceBooking) -> list[StartRayNode]:
        """Placed, priced, held and funded: the commands to the nodes."""
        return of(await self.feed(builders.funded(await self.hold(order))), StartRayNode)

    async def run(self, order: PlaceBooking) -> ClusterReady:
        commands = await self.start(order)
        return only(await self.feed(*(builders.started(command) for command in commands)), ClusterReady)

    async def lose(self, node_id: str, last_seen_at: int | None = None) -> list[Message]:
        """As liveness does, in one transaction."""
        boot = await self.connection.fetchval("SELECT boot_id FROM nodes WHERE node_id = $1", node_id)
        seen = self.now if last_seen_at is None else last_seen_at
        return await self.work(lambda rows: lose_node(rows, node_id, boot, "disconnected", seen))

    async def booking(self, booking_id: str = "bkg_1", partner: str = "acme") -> Booking:
        found = await Rows(self.connection, self.now, "look", self.limits).peek_booking(partner, booking_id)
        assert found is not None
        return found


async def open_driver(url: str, limits: Limits | None = None) -> Driver:
    await postgres.migrate(url, ["libs.bus", "services.scheduler"])
    return Driver(await postgres.connect(url, "driver"), limits or Limits())


def of(said: Iterable[Message], kind: type[M]) -> list[M]:
    return [message for message in said if isinstance(message, kind)]


def only(said: Iterable[Message], kind: type[M]) -> M:
    """The one message of that kind."""
    found = of(said, kind)
    assert len(found) == 1, f"{len(found)} {kind.__name__} in {[type(message).__name__ for message in said]}"
    return found[0]


def kinds(said: Iterable[Message]) -> list[str]:
    return [type(message).__name__ for message in said]
