"""Starts a node agent: `python -m services.node_agent --network URL`."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

import uvloop

from libs import nkey
from libs.process import DirectoryLock, InUse
from libs.settings import SettingsError, load
from services.node_agent import capacity
from services.node_agent.agent import Agent
from services.node_agent.settings import Settings

FLAGS = {
    "network": ("NATS_URL", "address of the network, nats://host:port"),
    "directory": ("NODE_DIRECTORY", "where the key and the small store lie (~/.bivouac/node)"),
    "name": ("NODE_NAME", "a name for people (this machine's)"),
    "address": ("NODE_ADDRESS", "where other nodes reach this one (its address on the way to the network)"),
    "ports-first": ("NODE_PORTS_FIRST", "first of 64 TCP ports for Ray (a free block)"),
    "cpus": ("NODE_CPUS", "cores to offer (all)"),
    "memory-mb": ("NODE_MEMORY_MB", "memory to offer (all)"),
    "gpus": ("NODE_GPUS", "all, none, or indices such as 0,1 (all)"),
    "country": ("NODE_COUNTRY", "two letters, such as SI (ZZ: not said)"),
    "region": ("NODE_REGION", "a label (unknown)"),
    "state": ("NODE_STATE", "a label (unknown)"),
    "tier": ("NODE_BANDWIDTH_TIER", "low_1 … high_2, ultra (low_1)"),
    "host-type": ("NODE_HOST_TYPE", "data_center, miner, partner or render (miner)"),
    "compliance": ("NODE_COMPLIANCE", "claims, such as SOC2,GDPR (none)"),
}


def settings_from(arguments: list[str]) -> Settings:
    """Flags first, then BIVOUAC_… variables, then what is usual."""
    parser = argparse.ArgumentParser(prog="python -m services.node_agent", description=__doc__)
    for flag, (variable, told) in FLAGS.items():
        parser.add_argument(f"--{flag}", dest=variable, help=f"{told}; or BIVOUAC_{variable}")
    given = {f"BIVOUAC_{name}": value for name, value in vars(parser.parse_args(arguments)).items() if value}
    return load(Settings, environ={**os.environ, **given})


async def run(settings: Settings, directory: Path) -> None:
    cards = capacity.offered_cards(settings.node_gpus)
    key = nkey.make(directory / "node.seed")
    agent = Agent(settings.nats_url, key, capacity.spec(settings, cards), cards, directory, settings.ready_file)
    leaving: set[asyncio.Task[None]] = set()
    for word in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(word, lambda: leaving.add(asyncio.create_task(agent.leave())))
    logging.getLogger("agent").info("node %s joins %s", agent.node_id, settings.nats_url)
    await agent.run()


def main() -> int:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    try:
        settings = settings_from(sys.argv[1:])
        directory = Path(settings.node_directory).expanduser().absolute()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = DirectoryLock(directory)
    except (SettingsError, InUse) as error:
        return failed(str(error))
    except OSError as error:
        return failed(f"{error.filename} cannot be used ({error.strerror}): choose another with --directory.")
    try:
        uvloop.run(run(settings, directory))
    except (capacity.CapacityError, nkey.NkeyError) as error:
        return failed(str(error))
    except KeyboardInterrupt:
        return 130
    finally:
        with contextlib.suppress(OSError):
            lock.release()
    return 0


def failed(sentence: str) -> int:
    print(f"node agent: {sentence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
