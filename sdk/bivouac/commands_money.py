"""statement, balance, nodes, offers: what anyone may see of pay, of his wallet and of the fleet."""

import re
from typing import Annotated

import typer

from bivouac import render
from bivouac.client import Caller
from bivouac.command import Session, command
from bivouac.errors import Invalid
from bivouac.offers import choose, parse
from wire.node import FleetView

_NODE_ID = re.compile(r"U[A-Z2-7]{55}")


def register(app: typer.Typer) -> None:
    command(app, "statement")(statement)
    command(app, "balance")(balance)
    command(app, "nodes")(nodes)
    command(app, "offers")(offers)


async def statement(
    session: Session,
    node: Annotated[str, typer.Argument(metavar="NODE", help="A node's id, the beginning of it, or its name.")],
    epoch: Annotated[int | None, typer.Option(min=0, help="The newest closed epoch when left out.")] = None,
) -> None:
    """A node's pay of an epoch, with every number it follows from."""
    caller = await session.caller()
    given = await caller.statement(await node_id(caller, node), epoch)
    session.terminal.answer(render.statement(given, await session.names(caller)), given)


async def balance(session: Session) -> None:
    """What your wallet holds, and what lies in escrow."""
    given = await (await session.client()).balance()
    session.terminal.answer(render.balance(given), given)


async def nodes(
    session: Session, model: Annotated[str, typer.Option(help="Of this GPU model alone, such as 'RTX 4090'.")] = ""
) -> None:
    """The network's nodes."""
    view = await (await session.caller()).fleet(model or None, limit=1000)
    session.terminal.answer(render.fleet(view), view)


async def offers(
    session: Session,
    expression: Annotated[
        str, typer.Argument(metavar="EXPRESSION", help="Such as 'gpu=RTX_4090 gpus>=4 country=SI price<=0.4'.")
    ] = "",
) -> None:
    """The free nodes that an expression means, the best first."""
    parse(expression)  # before anybody is asked
    view = await (await session.caller()).fleet(limit=1000)
    meant = FleetView(nodes=choose(expression, view.nodes))
    session.terminal.answer(render.fleet(meant), meant)


async def node_id(caller: Caller, named: str) -> str:
    """The one node that is called so, or whose id begins so."""
    if _NODE_ID.fullmatch(named):
        return named
    rows = (await caller.fleet(limit=1000)).nodes
    found = [row.node_id for row in rows if row.name == named or (len(named) >= 4 and row.node_id.startswith(named))]
    if not found:
        raise Invalid(f"No node is called {named!r}: `bivouac nodes` lists them, or give its whole id.")
    if len(found) > 1:
        raise Invalid(f"{len(found)} nodes are called {named!r}: give the id, one of {', '.join(found[:4])}.")
    return found[0]
