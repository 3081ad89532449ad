"""A node as a process of its own: joins under its key, beats, and leaves when it is asked to.

    python -m tests.scheduler.node_process URL SEED_FILE BOOT [BEAT_SECONDS] [LEASE,LEASE]

SIGUSR1 makes it say that it leaves and close its connection; SIGKILL and SIGSTOP need no help from it.
"""

import asyncio
import signal
import sys
from pathlib import Path

from libs import nkey
from libs.bus import ask
from libs.clock import now_ms
from tests.scheduler import builders
from wire.message import Message, deduplication_id, encode
from wire.node import Heartbeat, NodeJoined, NodeLeaving


async def main(url: str, seed_file: str, boot_id: str, beat: str = "5", leases: str = "") -> None:
    node_id = nkey.load(Path(seed_file)).public_key
    leaving, again = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, leaving.set)

    async def reconnected() -> None:
        again.set()

    client = await ask.connect(url, name=node_id, seed_file=seed_file, reconnected=reconnected)

    async def say(message: Message) -> None:
        stamped = message.stamped(f"{boot_id}/{message.verb()}", now_ms())
        body = encode(stamped)
        await client.jetstream().publish(
            stamped.subject(), body, headers={"Nats-Msg-Id": deduplication_id(stamped.id, body)}
        )

    await say(NodeJoined(node_id=node_id, boot_id=boot_id, spec=builders.spec()))
    print("joined", flush=True)
    nth, running = 0, tuple(filter(None, leases.split(",")))
    while not leaving.is_set():
        nth += 1
        heartbeat = Heartbeat(id=f"{boot_id}/{nth}", at=now_ms(), node_id=node_id, boot_id=boot_id, leases=running)
        await client.publish(heartbeat.subject(), encode(heartbeat))
        again.clear()
        done = [asyncio.create_task(event.wait()) for event in (leaving, again)]
        await asyncio.wait(done, timeout=float(beat), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.cancel()
    await say(NodeLeaving(node_id=node_id, boot_id=boot_id))
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
