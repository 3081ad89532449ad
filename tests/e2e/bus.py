"""The bus as partners, the operator and a bystander inside have it: raw bodies out, and every refusal that comes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.bus import ask
from tests.e2e.network import POOR, LiveNetwork
from wire.access import MessageRefused
from wire.catalog import message_on
from wire.message import Command, Message, decode, deduplication_id, encode
from wire.names import JETSTREAM_DOMAIN
from wire.streams import DEAD, EVENTS
from wire.values import Refusal

BYSTANDER = "prober"
"""Whose credentials show the whole bus."""

_REFUSED_SECONDS = 20.0


class Bus:
    """Partners and operator by name in `clients`; `heard` is every event since it was opened."""

    def __init__(self, clients: dict[str, Client], inside: Client) -> None:
        self.clients, self.inside = clients, inside
        self.heard: list[Message] = []
        self.expected: Counter[str] = Counter()
        """How many refusals were waited for, by what they are about."""
        self.dead_before: dict[str, int] = {}

    async def note(self, arrived: Msg) -> None:
        kind = message_on(arrived.subject)
        assert kind is not None, arrived.subject
        self.heard.append(decode(kind, arrived.subject, arrived.data))

    async def publish(self, sender: str, command: Command) -> bool:
        body = encode(command)
        return await self.publish_raw(sender, command.subject(), body, deduplication_id(command.id, body))

    async def publish_raw(self, sender: str, subject: str, body: bytes, deduplicated: str = "") -> bool:
        """Stored when this returns; True where the stream has it already."""
        headers = {"Nats-Msg-Id": deduplicated} if deduplicated else None
        stream = self.clients[sender].jetstream(domain=JETSTREAM_DOMAIN, timeout=10.0)
        return bool((await stream.publish(subject, body, headers=headers)).duplicate)

    async def refusal(self, about: str, *, within: str = "") -> Refusal:
        """The next refusal of what has this token in its subject or as its id; `within` names what it is part of."""
        self.expected.update(token for token in (about, within) if token)
        count = self.expected[about]
        await self._until(about, lambda: len(self.refusals(about)) >= count)
        return self.refusals(about)[count - 1]

    async def heard_of(self, about: str, kind: type[Message]) -> None:
        await self._until(about, lambda: any(isinstance(message, kind) for message in self.about(about)))

    async def _until(self, about: str, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _REFUSED_SECONDS
        while not true():
            assert time.monotonic() < deadline, f"of {about} no more was heard than {self.about(about)}"
            await asyncio.sleep(0.02)

    def refusals(self, about: str) -> list[Refusal]:
        """Those that reach a sender: in his own words of refusal, or as the end of his booking or job."""
        refused = [message for message in self.about(about) if message.verb() == "refused"]
        return [message.refusal for message in refused]  # type: ignore[attr-defined]

    def about(self, token: str) -> list[Message]:
        return [message for message in self.heard if token in tokens(message)]

    async def settled(self, seconds: float = 1.0) -> None:
        """Waits until nothing was heard for that long."""
        count = -1
        while count != len(self.heard):
            count = len(self.heard)
            await asyncio.sleep(seconds)

    async def dead(self) -> dict[str, int]:
        """How many dead letters came since, by their original subjects."""
        stream = self.inside.jetstream()
        subjects = (await stream.stream_info(DEAD.name, subjects_filter=">")).state.subjects or {}
        prefix = DEAD.subjects[0].removesuffix(">")
        found = Counter({subject.removeprefix(prefix): count for subject, count in subjects.items()})
        return dict(found - Counter(self.dead_before))

    def turned_away(self) -> dict[str, int]:
        """The same, of what was said to be no message: the digest of its body is told."""
        away = (one.subject_refused for one in self.heard if isinstance(one, MessageRefused) and one.body_digest)
        return dict(Counter(away))


def tokens(message: Message) -> list[str]:
    """What a message is about: its subject, or the one that it refuses, and the id of what caused it."""
    if isinstance(message, MessageRefused):
        return [*message.subject_refused.split("."), message.message_id]
    return [*message.subject().split("."), *message.id.split("/")]


@asynccontextmanager
async def opened(network: LiveNetwork, *partners: str) -> AsyncIterator[Bus]:
    """With acme, the poor one, the operator, and these."""
    async with AsyncExitStack() as stack:

        async def connect(name: str, seed_of: str = "") -> Client:
            seed = str(network.seed_file(seed_of or name))
            client = await ask.connect(network.url, name=name, seed_file=seed, patient=False)
            stack.push_async_callback(client.close)
            return client

        names = ("acme", POOR, "operator", *partners)
        bus = Bus({name: await connect(name) for name in names}, await connect(BYSTANDER))
        for subject in EVENTS.subjects:
            await bus.inside.subscribe(subject, cb=bus.note)
        await bus.inside.flush()
        bus.dead_before = await bus.dead()
        yield bus
