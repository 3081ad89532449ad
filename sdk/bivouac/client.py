"""What a partner does with the network: ask for a price, book, see what he has and what it costs."""

from collections.abc import Generator
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from bivouac import amounts
from bivouac.booking import Booking
from bivouac.connection import Connection, checked, new_id, stamped
from bivouac.errors import BivouacError, Invalid, Refused
from bivouac.keys import read_seed
from wire.booking import BookingList, BookingStatus, GetBooking, ListBookings, PlaceBooking
from wire.ledger import Balance, GetBalance, GetReceipt, GetStatement, Receipt, Statement
from wire.node import FleetView, GetFleet
from wire.quote import GetQuote, Quote, QuoteGiven
from wire.reputation import GetReputation, ReputationGiven
from wire.values import BandwidthTier, ClusterRequest, Money


def cluster(
    nodes: int,
    model: str,
    hours: str | Decimal,
    *,
    gpus_per_node: int = 1,
    tier: str = "low_1",
    country: str | None = None,
) -> ClusterRequest:
    """A request in people's words; raises Invalid with one sentence for what no cluster can be."""
    if tier not in set(BandwidthTier):
        raise Invalid(f"{tier!r} is no bandwidth tier: choose one of {', '.join(BandwidthTier)}.")
    request = ClusterRequest(
        nodes=nodes,
        model=model,
        duration_seconds=amounts.parse_hours(str(hours)),
        gpus_per_node=gpus_per_node,
        bandwidth_tier=BandwidthTier(tier),
        country=country.upper() if country else None,
    )
    try:
        return msgspec.convert(msgspec.to_builtins(request), ClusterRequest)
    except msgspec.ValidationError as error:
        raise Invalid(f"No cluster can be asked for like that: {error}.") from error


class Caller:
    """What partners and operators have in common: a connection of their own, and public questions."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.identity = connection.identity

    @classmethod
    async def connect(
        cls, url: str, *, identity: str, key_file: str | Path | None = None, seed: str | None = None
    ) -> Self:
        """Connects as `identity` with the key in `key_file`, or with `seed` itself."""
        if (key_file is None) == (seed is None):
            raise Invalid("Give the key as key_file or as seed, one of the two.")
        words = seed if seed is not None else read_seed(Path(key_file or ""))
        return cls(await Connection.open(url, identity, words))

    async def close(self) -> None:
        await self.connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def fleet(self, model: str | None = None, limit: int = 200) -> FleetView:
        """The network's nodes, of one model or of all."""
        return await self.connection.ask(GetFleet(identity=self.identity, model=model, limit=limit), FleetView)

    async def statement(self, node: str, epoch: int | None = None) -> Statement:
        """A node's pay of an epoch (the newest closed one when none is named), with the numbers it follows from."""
        return await self.connection.ask(GetStatement(identity=self.identity, node_id=node, epoch=epoch), Statement)

    async def reputation(self, node: str) -> ReputationGiven:
        """How far a node is trusted, and what moved it."""
        return await self.connection.ask(GetReputation(identity=self.identity, node_id=node), ReputationGiven)


class Client(Caller):
    """A partner of the network: `async with await Client.connect(url, identity=…, key_file=…) as client:`."""

    async def quote(self, request: ClusterRequest) -> Quote:
        """What the cluster would cost, line by line, and until when that holds; raises Refused."""
        answer = await self.connection.ask(GetQuote(partner=self.identity, request=request), QuoteGiven)
        return answer.quote

    def book(
        self,
        request: ClusterRequest,
        *,
        max_total: Money | Decimal | str,
        quote_id: str | None = None,
        booking_id: str | None = None,
        ready_seconds: float = 900.0,
    ) -> "Order":
        """Books a cluster for at most `max_total` (an amount in USD).

        `booking = await client.book(…)` returns as soon as the order is stored. `async with client.book(…) as
        cluster:` waits until the cluster is ready, and on leaving releases it and waits for the settlement. Repeating
        a call with the same `booking_id` and the same order finds the booking again instead of making another.
        """
        total = max_total if isinstance(max_total, Money) else amounts.parse_usd(str(max_total))
        order = PlaceBooking(
            partner=self.identity,
            booking_id=booking_id or new_id("bkg"),
            request=request,
            max_total=total,
            quote_id=quote_id,
        )
        return Order(self.connection, order, ready_seconds)

    async def booking(self, booking_id: str) -> Booking:
        """A booking made before; raises Refused when the network knows none of that id."""
        checked(stamped(GetBooking(partner=self.identity, booking_id=booking_id)))
        booking = Booking(self.connection, booking_id)
        await booking.listen()
        try:
            await booking.status()
        except BivouacError:
            await booking.close()
            raise
        return booking

    async def bookings(self, limit: int = 20) -> tuple[BookingStatus, ...]:
        """One's newest bookings."""
        answer = await self.connection.ask(ListBookings(partner=self.identity, limit=limit), BookingList)
        return answer.bookings

    async def balance(self) -> Balance:
        """What one's wallet holds, and what lies in escrow."""
        return await self.connection.ask(GetBalance(identity=self.identity), Balance)

    async def receipt(self, booking_id: str) -> Receipt:
        """What a booking of one's own cost, lease by lease."""
        return await self.connection.ask(GetReceipt(identity=self.identity, booking_id=booking_id), Receipt)


class Order:
    """A booking about to be made: await it, or enter it as an async context manager."""

    def __init__(self, connection: Connection, order: PlaceBooking, ready_seconds: float) -> None:
        self._connection, self._order, self._ready_seconds = connection, order, ready_seconds
        self._booking: Booking | None = None

    def __await__(self) -> Generator[Any, None, Booking]:
        return self._place().__await__()

    async def __aenter__(self) -> Booking:
        booking = self._booking = await self._place()
        try:
            await booking.ready(self._ready_seconds)
        except BaseException as error:
            await leave(booking, error)
            raise
        return booking

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._booking is not None
        await leave(self._booking, error)

    async def _place(self) -> Booking:
        order = stamped(self._order)
        checked(order)  # before its id becomes part of what is listened to
        booking = Booking(self._connection, order.booking_id, order=order)
        await booking.listen()
        try:
            await booking.send(order)
        except BaseException:
            await booking.close()
            raise
        return booking


async def leave(booking: Booking, error: BaseException | None) -> None:
    """Releases the booking; what is already being raised is not hidden by what the release raises."""
    try:
        if booking.view.state != "refused":
            await booking.release()
    except BivouacError as failure:
        if error is None and not isinstance(failure, Refused):
            raise
        if error is not None:
            error.add_note(f"Booking {booking.booking_id} was not seen to be released: {failure}")
    finally:
        await booking.close()
