"""The `bivouac` command: its tables of commands, and the exit codes: 1 refused or failed, 2 not understood."""

import os
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from bivouac import commands_booking, commands_job, commands_market, commands_money, commands_network, commands_operator
from bivouac.command import INTERRUPTED, USAGE, common_options
from bivouac.errors import Invalid
from bivouac.terminal import Terminal

_PLAIN = {"no_args_is_help": True, "add_completion": False, "rich_markup_mode": None}


def build() -> typer.Typer:
    """All commands."""
    app = typer.Typer(help="Book GPU clusters, run jobs on them, pay for what ran.", **_PLAIN)  # type: ignore[arg-type]
    node = typer.Typer(help="Provide a machine to a network.", **_PLAIN)  # type: ignore[arg-type]
    keys = typer.Typer(help="Keys that say who you are.", **_PLAIN)  # type: ignore[arg-type]
    operator = typer.Typer(help="Run a network.", **_PLAIN)  # type: ignore[arg-type]
    common_options(app)
    commands_booking.register(app)
    commands_job.register(app)
    commands_market.register(app)
    commands_money.register(app)
    commands_network.register(app, node, keys)
    commands_operator.register(operator)
    app.add_typer(node, name="node")
    app.add_typer(keys, name="keys")
    app.add_typer(operator, name="operator")
    return app


def main(words: Sequence[str] | None = None) -> None:
    """Runs the command line and exits; nothing but one sentence is ever printed about a failure."""
    words = list(sys.argv[1:] if words is None else words)
    sys.exit(_run(words))


def _run(words: list[str]) -> int:
    try:
        code = build()(words, prog_name="bivouac", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except TyperException as error:
        sentence = error.format_message().strip() or "A command is missing: see `bivouac --help`."
        Terminal("--json" in words).failed(Invalid(sentence))
        return USAGE
    except typer.Abort:
        return INTERRUPTED
    except BrokenPipeError:  # who read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    main()
