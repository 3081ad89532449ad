"""Starts the network: all of it on this machine (`up`), one service (`run`), or what containers need (`provision`)."""

import argparse
import asyncio
import contextlib
import json
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from libs.local.errors import LocalError
from libs.local.servers import DEFAULT_DIRECTORY
from libs.process import dies_with_us
from services import provision
from services.local_network import LocalNetwork, Tell
from wire.catalog import SERVICES

NODES_MAX, DEPOSIT_MAX = 64, 10**9


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="python -m services", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)
    whole = "bring the whole network up on this machine and keep it up; Ctrl-C ends it"
    up = commands.add_parser("up", help=whole, description=whole)
    up.add_argument("--data", type=Path, default=DEFAULT_DIRECTORY, help="where keys, data and logs lie (%(default)s)")
    up.add_argument("--nodes", type=number(NODES_MAX), default=4, metavar="N", help="node agents to start (4)")
    opening = "what acme's wallet opens with (100)"
    up.add_argument("--deposit", type=number(DEPOSIT_MAX), default=100, metavar="USD", help=opening)
    up.add_argument("--json", action="store_true", help="a JSON object a line: the network's words and each event")
    up.add_argument("--quiet", action="store_true", help="no line per event")
    run = commands.add_parser("run", help="run one service; all its settings come from BIVOUAC_… variables")
    run.add_argument("service", choices=SERVICES)
    provision.add_to(commands)
    return root


def number(most: int) -> Callable[[str], int]:
    """Reads a whole number from 0 on, for argparse."""

    def read(word: str) -> int:
        if not word.isdecimal() or not word.isascii() or len(word) > 20 or int(word) > most:
            raise argparse.ArgumentTypeError(f"{word[:40]!r} is not a whole number from 0 to {most:,}")
        return int(word)

    return read


async def up(options: argparse.Namespace) -> None:
    def tell(line: str) -> None:
        print(json.dumps({"network": line}) if options.json else f"network  {line}", flush=True)

    network = LocalNetwork(options.data, options.nodes, options.deposit, tell)
    stop = asyncio.Event()
    for word in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(word, stop.set)
    life = asyncio.create_task(live(network, options, tell))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([life, stopping], return_when=asyncio.FIRST_COMPLETED)
        while not life.done():  # again and again: a connection that is being made swallows it
            life.cancel()
            await asyncio.wait([life], timeout=0.5)
        with contextlib.suppress(asyncio.CancelledError):
            life.result()
    finally:
        stopping.cancel()
        if await network.stop():
            tell("everything is stopped")


async def live(network: LocalNetwork, options: argparse.Namespace, tell: Tell) -> None:
    await network.start()
    profiles = network.directory / "profiles"
    tell(f"ready: try `bivouac --profile {profiles / 'acme.json'} nodes`; Ctrl-C ends everything")
    watching = asyncio.create_task(network.watch())
    try:
        if options.quiet:
            await watching
        else:
            await asyncio.gather(watching, show_events(profiles / "operator.json", options.json))
    finally:
        watching.cancel()


async def show_events(profile: Path, as_json: bool) -> None:
    """A line per event, as the operator's own command prints them."""
    words = [sys.executable, "-m", "bivouac", "--profile", str(profile), "operator", "watch"]
    while True:
        child = await asyncio.create_subprocess_exec(
            *words, *(["--json"] if as_json else []), process_group=0, preexec_fn=dies_with_us()
        )
        try:
            await child.wait()
            await asyncio.sleep(1.0)
        finally:
            if child.returncode is None:
                child.terminate()


def main() -> int:
    options = parser().parse_args()
    if options.command == "run":
        sys.argv = [f"services.{options.service}"]
        runpy.run_module(f"services.{options.service}", run_name="__main__")
        return 0
    try:
        if options.command == "provision":
            provision.run(options)
        else:
            asyncio.run(up(options))
    except LocalError as error:
        print(f"bivouac: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
