"""What goes wrong in a drill, at random from a seed: kills, freezes, cut connections, and messages that come again."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg
import msgspec
from nats.aio.client import Client as Nats
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from libs.local.nats import KICK
from libs.local.outsiders import OUTSIDE_CONNECTIONS
from tests.drills.network import FLEETS, SCHEMAS, SERVERS, DrillNetwork
from wire.streams import EVENTS, NODE_COMMANDS

REPEATED = "again"
"""How the deduplication id of a message begins that was put into its stream once more."""

_PAUSE_SECONDS = (0.8, 1.8)
_FREEZE_SECONDS = (0.5, 6.5)
_AWAY_SECONDS = 5.0
_EVENTS_AGAIN, _COMMANDS_AGAIN = 50, 12

_CLOSE_SESSIONS = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1"
_COMMANDS = "SELECT message_id, subject, body FROM scheduler.outbox WHERE stream = $1 ORDER BY random() LIMIT $2"


class Faults:
    """One after the other out of a bag that holds each kind at least once, then out of the next bag."""

    def __init__(self, network: DrillNetwork, inside: Nats, chance: random.Random) -> None:
        self._network, self._inside, self._chance = network, inside, chance
        self._bag: list[str] = []
        self._repeats = 0
        self._freezing: set[asyncio.Task[None]] = set()
        self.done: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """Until that time is over; what was frozen goes on then."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            await asyncio.sleep(self._chance.uniform(*_PAUSE_SECONDS))
            await self.inflict(self._next())
        await asyncio.gather(*self._freezing)

    def _next(self) -> str:
        if not self._bag:
            servers = [*SERVERS, "nats", "nats", "postgres"]
            services = [*SCHEMAS, "scheduler", "ledger", self._chance.choice([*FLEETS])]
            others = ["relay", "relay", "kick", "kick", "freeze", "freeze", "events again", "commands again"]
            self._bag = [*servers, *services, *others]
            self._chance.shuffle(self._bag)
        return self._bag.pop()

    async def inflict(self, kind: str) -> None:
        """One fault; it counts when it hit something."""
        others: dict[str, Callable[[], Awaitable[bool]]] = {
            "relay": self._end_a_relay,
            "kick": self._cut_a_node,
            "freeze": self._freeze,
            "events again": self._repeat_some_events,
            "commands again": self._repeat_commands,
        }
        with suppress(NatsError, JetStreamError, TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            async with asyncio.timeout(_AWAY_SECONDS):
                if await others[kind]() if kind in others else self._network.kill(kind):
                    self.done[kind] += 1

    async def _end_a_relay(self) -> bool:
        """Its session, in the middle of whatever it does; a kill of its service kills it as well."""
        connection = await self._network.database()
        try:
            return bool(await connection.fetchval(_CLOSE_SESSIONS, f"{self._chance.choice(SCHEMAS)} relay"))
        finally:
            await connection.close()

    async def _cut_a_node(self) -> bool:
        """Its connection alone; the node lives, and comes back."""
        answer = await self._inside.request(OUTSIDE_CONNECTIONS, b'{"auth":true}', timeout=2.0)
        page = msgspec.json.decode(answer.data)["data"]
        nodes = [one["cid"] for one in page["connections"] if one.get("authorized_user", "") == one.get("name")]
        if not nodes:
            return False
        kick = msgspec.json.encode({"cid": self._chance.choice(nodes)})
        await self._inside.publish(KICK.format(server_id=page["server_id"]), kick, reply=self._inside.new_inbox())
        return True

    async def _freeze(self) -> bool:
        """A service or a fleet stands still, for less or for more than an acknowledgement may take."""
        name = self._chance.choice([*SCHEMAS, *FLEETS])
        pid = self._network.pid(name)
        if not self._network.kill(name, signal.SIGSTOP):
            return False

        async def thaw() -> None:
            await asyncio.sleep(self._chance.uniform(*_FREEZE_SECONDS))
            if self._network.pid(name) == pid:
                self._network.kill(name, signal.SIGCONT)

        task = asyncio.create_task(thaw())
        self._freezing.add(task)
        task.add_done_callback(self._freezing.discard)
        return True

    async def _repeat_some_events(self) -> bool:
        state = (await self._inside.jetstream(timeout=2.0).stream_info(EVENTS.name)).state
        first = self._chance.randint(state.first_seq, max(state.first_seq, state.last_seq - _EVENTS_AGAIN))
        return await self.repeat_events(first, min(first + _EVENTS_AGAIN, state.last_seq)) > 0

    async def repeat_events(self, first: int, last: int) -> int:
        """A slice of the events, stored again: what a broker does that has forgotten what it has had."""
        jetstream = self._inside.jetstream(timeout=2.0)
        slice_ = [await jetstream.get_msg(EVENTS.name, sequence) for sequence in range(first, last + 1)]
        return await self._store_again([(event.subject or "", event.data or b"") for event in slice_])

    async def _repeat_commands(self) -> bool:
        """Orders that nodes have had, of the past and of the present."""
        connection = await self._network.database()
        try:
            rows = await connection.fetch(_COMMANDS, NODE_COMMANDS.name, _COMMANDS_AGAIN)
        finally:
            await connection.close()
        return await self._store_again([(row["subject"], row["body"]) for row in rows]) > 0

    async def _store_again(self, messages: list[tuple[str, bytes]]) -> int:
        jetstream = self._inside.jetstream(timeout=10.0)
        storing = []
        for subject, body in messages:
            self._repeats += 1
            headers = {"Nats-Msg-Id": f"{REPEATED}-{self._repeats}"}
            storing.append(jetstream.publish(subject, body, headers=headers))
        await asyncio.gather(*storing)
        return len(storing)
