"""operator …: let partners in, book deposits, close epochs, audit, ban, watch."""

from typing import Annotated

import typer

from bivouac import narrate, render
from bivouac.amounts import show
from bivouac.command import REFUSED, Session, command
from bivouac.errors import Invalid
from wire.node import NodeJoined
from wire.values import Reason

PublicKey = Annotated[str, typer.Argument(metavar="PUBLIC_KEY", help="A public nkey, U….")]


def register(app: typer.Typer) -> None:
    command(app, "register-partner", operates=True)(register_partner)
    command(app, "deposit", operates=True)(deposit)
    command(app, "close-epoch", operates=True)(close_epoch)
    command(app, "audit", operates=True)(audit)
    command(app, "ban", operates=True)(ban)
    command(app, "watch", operates=True)(watch)


async def register_partner(
    session: Session, partner: Annotated[str, typer.Argument(metavar="PARTNER")], public_key: PublicKey
) -> None:
    """Let the holder of a key speak as a partner."""
    registered = await (await session.operator()).register_partner(partner, public_key)
    session.terminal.answer(narrate.line(registered), registered)


async def deposit(
    session: Session,
    partner: Annotated[str, typer.Argument(metavar="PARTNER")],
    amount: Annotated[str, typer.Argument(metavar="USD", help="Such as 12.50.")],
    reference: Annotated[str, typer.Option(help="Names the payment: it is booked once however often it is told.")] = "",
) -> None:
    """Book a partner's payment into his wallet."""
    booked = await (await session.operator()).deposit(partner, amount, reference or None)
    words = f"{booked.partner} deposited {show(booked.amount)} ({booked.reference}), wallet {show(booked.wallet)}"
    session.terminal.answer(words, booked)


async def close_epoch(session: Session) -> None:
    """Close the running epoch now, and show what it paid to whom."""
    operator = await session.operator()
    closed = await operator.close_epoch()
    session.terminal.answer(render.epoch(closed, await session.names(operator)), closed)


async def audit(session: Session) -> None:
    """Check every invariant of the ledger again, from the first transfer on; exit code 1 when one is broken."""
    with session.terminal.waiting("Checking every transfer…"):
        report = await (await session.operator()).audit()
    session.terminal.answer(render.audit(report), report)
    if not report.passed:
        raise typer.Exit(REFUSED)


async def ban(
    session: Session,
    public_key: PublicKey,
    reason: Annotated[str, typer.Option(help="Why, in the words the network uses.")] = "not_allowed",
    evidence: Annotated[str, typer.Option(help="What shows it.")] = "",
) -> None:
    """Shut out a key, at once."""
    if reason not in set(Reason):
        raise Invalid(f"{reason!r} is no reason: choose one of {', '.join(Reason)}.")
    banned = await (await session.operator()).ban(public_key, Reason(reason), evidence)
    session.terminal.answer(narrate.line(banned), banned)


async def watch(session: Session) -> None:
    """Every event of the network as it happens, until Ctrl-C."""
    operator = await session.operator()
    names = await session.names(operator)
    session.detached = ""
    async for message in operator.watch():
        if isinstance(message, NodeJoined):
            names[message.node_id] = message.spec.name
        if session.terminal.as_json:
            session.terminal.document(message)
        else:
            session.terminal.line(f"{render.moment(message.at)[11:19]} {narrate.line(message, names)}")
