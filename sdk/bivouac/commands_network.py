"""up, node join, keys new: what needs no network yet; the network's own programs are started, never imported."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Annotated, Any

import typer

from bivouac.command import Session, command
from bivouac.errors import BivouacError
from bivouac.keys import new_seed, public_key, write_seed

NETWORK = "bivouac-network"
_PASSED_ON: dict[str, Any] = {"context_settings": {"allow_extra_args": True, "ignore_unknown_options": True}}


def register(app: typer.Typer, node: typer.Typer, keys: typer.Typer) -> None:
    command(app, "up", **_PASSED_ON)(up)
    command(node, "join", **_PASSED_ON)(join)
    command(keys, "new")(new)


def up(session: Session, context: typer.Context) -> None:
    """Start a whole network on this machine; what else is given is passed on to it."""
    _become(["-m", "services", "up", *(["--json"] if session.terminal.as_json else []), *context.args])


def join(
    session: Session,
    context: typer.Context,
    network: Annotated[str, typer.Option(help="The network's URL, nats://….")],
    key_dir: Annotated[str, typer.Option(help="Where the node's key lies; ~/.bivouac/node when left out.")] = "",
    name: Annotated[str, typer.Option(help="What the node is called; the machine's name when left out.")] = "",
) -> None:
    """Let this machine join a network as a node, until it is stopped; more flags are passed on to the node agent."""
    words = ["-m", "services.node_agent", "--network", network]
    words += ["--directory", key_dir] if key_dir else []
    words += ["--name", name] if name else []
    _become([*words, *context.args])


def new(
    session: Session, file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the new key is written.")]
) -> None:
    """Make a key; its public half is what an operator registers."""
    seed = new_seed()
    write_seed(file, seed)
    key = public_key(seed)
    session.terminal.answer(f"{key}\nThe key is in {file}: keep it, and show it to nobody.", {"public_key": key})


def _become(words: list[str]) -> None:
    """Runs the network's own program in this terminal, and ends as it ends."""
    try:
        distribution(NETWORK)
    except PackageNotFoundError:
        raise BivouacError(
            f"The network itself is not installed here: `pip install {NETWORK}` beside this client, "
            "or use a network that runs elsewhere with --url."
        ) from None
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(sys.executable, [sys.executable, *words])
    raise typer.Exit(subprocess.call([sys.executable, *words]))
