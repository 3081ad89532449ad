"""quote, book, status, release, receipt: a cluster from its price to its bill."""

import asyncio
from collections.abc import Callable
from typing import Annotated

import typer

from bivouac import amounts, narrate, render
from bivouac.booking import Booking
from bivouac.client import Client, cluster
from bivouac.command import REFUSED, Session, command
from bivouac.errors import Refused
from bivouac.view import BookingView
from wire.booking import BookingRefused, EscrowDeclined, QuoteDeclined
from wire.quote import Quote
from wire.values import BandwidthTier, ClusterRequest, Money, Reason, Refusal

Nodes = Annotated[int, typer.Option(help="How many nodes; all of them or none.")]
Model = Annotated[str, typer.Option(help="GPU model, such as 'RTX 4090', or CPU.")]
Hours = Annotated[str, typer.Option(help="For how long at most, such as 0.5 or 24; less use costs less.")]
Gpus = Annotated[int, typer.Option(help="GPUs in each node.")]
Tier = Annotated[str, typer.Option(help=f"Bandwidth at least: {', '.join(BandwidthTier)}.")]
Country = Annotated[str, typer.Option(help="Two letters; anywhere when left out.")]
BookingId = Annotated[str, typer.Argument(metavar="BOOKING", help="Its id, bkg_….")]


def register(app: typer.Typer) -> None:
    command(app, "quote")(quote)
    command(app, "book")(book)
    command(app, "status")(status)
    command(app, "release")(release)
    command(app, "receipt")(receipt)


async def quote(
    session: Session,
    model: Model,
    nodes: Nodes = 1,
    hours: Hours = "1",
    gpus: Gpus = 1,
    tier: Tier = "low_1",
    country: Country = "",
) -> None:
    """What a cluster would cost, line by line."""
    wanted = cluster(nodes, model, hours, gpus_per_node=gpus, tier=tier, country=country or None)
    given = await (await session.client()).quote(wanted)
    session.terminal.answer(render.quote(given), given)


async def book(
    session: Session,
    model: Model,
    nodes: Nodes = 1,
    hours: Hours = "1",
    max_total: Annotated[str, typer.Option(help="The most it may cost, in USD; the quote's total when left out.")] = "",
    gpus: Gpus = 1,
    tier: Tier = "low_1",
    country: Country = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Book without asking.")] = False,
    booking_id: Annotated[str, typer.Option(help="An id of your own: saying it again books nothing twice.")] = "",
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait until the cluster is ready.")] = False,
) -> None:
    """Book a cluster: the plan and its price first, then y or n, then the cluster."""
    wanted = cluster(nodes, model, hours, gpus_per_node=gpus, tier=tier, country=country or None)
    limit = amounts.parse_usd(max_total) if max_total else None
    client = await session.client()
    booking = await _made_before(client, booking_id, wanted) if booking_id else None
    if booking is None:
        given = await _plan(session, client, wanted, limit, yes)
        booking = await client.book(
            wanted, max_total=limit or given.total, quote_id=given.quote_id, booking_id=booking_id or None
        )
    come_back = (
        f"come back with `bivouac status {booking.booking_id}`, end it with `bivouac release {booking.booking_id}`"
    )
    session.detached = f"Detached. The booking goes on: {come_back}."
    if detach:
        session.terminal.answer(f"Booking {booking.booking_id} is ordered: {come_back}.", booking.view)
        return
    names = await session.names(client)
    with session.terminal.waiting("Waiting for the cluster…") as tell:
        view = await _told_until_ready(booking, names, tell)
    session.terminal.answer(_ready_words(view, names), view)


async def status(session: Session, booking_id: Annotated[str, typer.Argument(metavar="[BOOKING]")] = "") -> None:
    """How a booking stands; without one, your newest bookings."""
    client = await session.client()
    if not booking_id:
        rows = await client.bookings()
        session.terminal.answer(render.bookings(rows), rows)
        return
    booking = await client.booking(booking_id)
    row = await booking.status()
    session.terminal.answer(render.booking(row, await session.names(client)), row)


async def release(session: Session, booking_id: BookingId) -> None:
    """End a booking; what was not used is refunded. Prints the receipt."""
    client = await session.client()
    booking = await client.booking(booking_id)
    session.detached = f"Detached. The release goes on: see `bivouac receipt {booking_id}`."
    with session.terminal.waiting("Waiting for the settlement…"):
        given = await booking.release()
    session.terminal.answer(render.receipt(given, await session.names(client)), given)


async def receipt(session: Session, booking_id: BookingId) -> None:
    """What a booking cost, lease by lease."""
    client = await session.client()
    given = await client.receipt(booking_id)
    session.terminal.answer(render.receipt(given, await session.names(client)), given)


async def _made_before(client: Client, booking_id: str, wanted: ClusterRequest) -> Booking | None:
    """The booking of that id, so that a repeated command waits for it instead of booking again."""
    try:
        booking = await client.booking(booking_id)
    except Refused as refused:
        if refused.reason is Reason.unknown_booking:
            return None
        raise
    if (await booking.status()).request != wanted:
        detail = f"Booking {booking_id} is another order: an id names one order once and for ever."
        raise Refused(Refusal(reason=Reason.id_reused, detail=detail, nearest="leave --booking-id out"))
    return booking


async def _plan(session: Session, client: Client, wanted: ClusterRequest, limit: Money | None, yes: bool) -> Quote:
    """The quote that was agreed to. One above the limit is booked unasked: the network will say what fits."""
    given = await client.quote(wanted)
    terminal = session.terminal
    if not terminal.as_json:
        terminal.answer(render.quote(given), given)
    if limit is not None and given.total.amount > limit.amount:
        terminal.note(f"That is above your maximum of {amounts.show(limit)}.")
        return given
    if yes or terminal.confirm(f"Book this for at most {amounts.show(limit or given.total)}?"):
        return given
    terminal.note("Nothing was booked.")
    raise typer.Exit(REFUSED)


async def _told_until_ready(booking: Booking, names: dict[str, str], tell: Callable[[str], None]) -> BookingView:
    async def narrate_on() -> None:
        async for message in booking.events():
            if not isinstance(message, BookingRefused | QuoteDeclined | EscrowDeclined):  # raised, and said once
                tell(narrate.line(message, names))

    telling = asyncio.create_task(narrate_on())
    try:
        return await booking.ready()
    finally:
        await asyncio.sleep(0)  # the last news is told, too
        telling.cancel()


def _ready_words(view: BookingView, names: dict[str, str]) -> str:
    nodes = ", ".join(render.node(each, names) for each in view.nodes)
    return (
        f"Cluster {view.booking_id} is ready: {nodes}; until {render.moment(view.expires_at)}.\n"
        f"Run a job:  bivouac run {view.booking_id} --files DIR -- python main.py\n"
        f"End it:     bivouac release {view.booking_id}"
    )
