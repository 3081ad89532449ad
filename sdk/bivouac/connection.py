"""One identity's connection: commands that wait for their ack, queries, and what one listens to; it mends itself."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec
import nats
import nats.errors
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError

from bivouac.errors import BivouacError, Invalid, NotAllowed, Refused, Unreachable
from bivouac.keys import public_key
from wire.access import Identity
from wire.catalog import message_on
from wire.message import Command, Event, Malformed, Message, Query, Reply, decode, deduplication_id, encode
from wire.names import JETSTREAM_DOMAIN, inbox_prefix
from wire.quote import Refused as RefusedReply

R = TypeVar("R", bound=Reply)
C = TypeVar("C", bound=Command | Event)
T = TypeVar("T")
Heard = Callable[[Message], None]

CONNECT_SECONDS = 5.0
PUBLISH_SECONDS = 20.0  # a leader fail-over took 7.9 s at worst
ASK_SECONDS = 6.0
_TRY_SECONDS = 4.0
_PAUSE_SECONDS_MAX = 1.0
_ERROR_HEADER = "Nats-Service-Error"  # NATS ADR-32


class Listening:
    """Subscriptions that are open until closed, also across a new connection."""

    def __init__(self, connection: "Connection", patterns: Sequence[str], heard: Heard) -> None:
        self._connection, self.patterns, self._heard = connection, tuple(patterns), heard
        self._open: list[Subscription] = []

    async def subscribe(self, client: Nats) -> None:
        self._open = [await client.subscribe(pattern, cb=self._arrived) for pattern in self.patterns]
        await client.flush(int(CONNECT_SECONDS))

    async def close(self) -> None:
        self._connection.forget(self)
        for subscription in self._open:
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                await subscription.unsubscribe()

    async def _arrived(self, arrived: Msg) -> None:
        kind = message_on(arrived.subject)
        if kind is None:
            return  # of a newer network than this client
        try:
            self._heard(decode(kind, arrived.subject, arrived.data))
        except Malformed:
            return


class Connection:
    """Opened with `Connection.open`; every method raises BivouacError with one sentence."""

    def __init__(self, url: str, identity: str, seed: str) -> None:
        self.url, self.identity, self._seed = url, identity, seed
        self._client: Nats | None = None
        self._listenings: list[Listening] = []
        self._complaints: list[str] = []
        self._mending = asyncio.Lock()
        self._closed = False

    @classmethod
    async def open(cls, url: str, identity: str, seed: str, timeout: float = CONNECT_SECONDS) -> "Connection":
        try:
            msgspec.convert(identity, Identity)
        except msgspec.ValidationError:
            raise Invalid(f"{identity!r} is no identity: it has letters, digits, - and _ only.") from None
        connection = cls(url, identity, seed)
        await connection._connect(timeout)
        return connection

    async def close(self) -> None:
        self._closed = True
        if self._client is not None:
            await self._client.close()

    async def jetstream(self) -> JetStreamContext:
        """JetStream as a partner sees it; an operator needs none of its interface, only the acks of what he sends."""
        return (await self._living()).jetstream(domain=JETSTREAM_DOMAIN, timeout=_TRY_SECONDS)

    async def listen(self, patterns: Sequence[str], heard: Heard) -> Listening:
        """Calls `heard` for each message on `patterns`; when this returns, the server knows the subscriptions."""
        listening = Listening(self, patterns, heard)

        async def subscribe() -> None:
            await listening.subscribe(await self._living())

        await self._persist(subscribe, patterns[0], ASK_SECONDS, "listen to")
        self._listenings.append(listening)
        return listening

    def forget(self, listening: Listening) -> None:
        if listening in self._listenings:
            self._listenings.remove(listening)

    async def publish(self, command: C, timeout: float = PUBLISH_SECONDS) -> None:
        """Stores a stamped command in its stream; repeats it under the same id until the stream says that it has it."""
        subject, body = command.subject(), checked(command)
        headers = {"Nats-Msg-Id": deduplication_id(command.id, body)}

        async def once() -> None:
            stream = await self.jetstream()
            await stream.publish(subject, body, timeout=_TRY_SECONDS, headers=dict(headers))

        await self._persist(once, subject, timeout, "send")

    async def ask(self, query: Query, reply: type[R], timeout: float = ASK_SECONDS) -> R:
        """The answer to a query; raises Refused where the answer is no."""
        query = stamped(query)
        subject, body = query.subject(), checked(query)

        async def once() -> Msg:
            return await (await self._living()).request(subject, body, timeout=_TRY_SECONDS)

        arrived = await self._persist(once, subject, timeout, "ask")
        if arrived.headers and _ERROR_HEADER in arrived.headers:
            raise BivouacError(f"The network cannot answer: {arrived.headers[_ERROR_HEADER]}")
        try:
            answer: R | RefusedReply = msgspec.json.decode(arrived.data, type=reply | RefusedReply)
        except msgspec.MsgspecError as error:
            raise Unreachable(f"The network's answer cannot be read ({error}): is this client too old?") from error
        if isinstance(answer, RefusedReply):
            raise Refused(answer.refusal)
        return answer

    async def mend(self) -> None:
        """Connects anew where the server ended the connection for good, and opens what was listened to again."""
        if self._client is None or self._client.is_closed:
            await self._living()

    async def _living(self) -> Nats:
        async with self._mending:
            if self._closed:
                raise BivouacError("This client is closed: connect a new one.")
            if self._client is None or self._client.is_closed:
                await self._connect(CONNECT_SECONDS)
                for listening in self._listenings:
                    await listening.subscribe(self._nats())
            return self._nats()

    def _nats(self) -> Nats:
        assert self._client is not None
        return self._client

    async def _connect(self, timeout: float) -> None:
        async def complain(error: Exception) -> None:
            self._complaints = [*self._complaints[-9:], str(error) or type(error).__name__]

        self._complaints = []
        client = Nats()
        try:
            async with asyncio.timeout(timeout):
                await client.connect(
                    self.url,
                    nkeys_seed_str=self._seed,
                    inbox_prefix=inbox_prefix(self.identity),
                    name=self.identity,
                    error_cb=complain,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=1,
                    ping_interval=5,  # a silent cut is noticed after two of them
                    max_outstanding_pings=2,
                )
        except (TimeoutError, OSError, nats.errors.Error, ValueError) as error:
            with contextlib.suppress(Exception):
                await client.close()
            raise Unreachable(self._why_not()) from error
        self._client = client

    def _why_not(self) -> str:
        if any("authorization" in complaint.lower() for complaint in self._complaints):
            return (
                f"The network at {self.url} does not let {self.identity} in with the key {public_key(self._seed)}: "
                "ask its operator to register that key, or name another with --key."
            )
        return f"No network answers at {self.url}: start one with `bivouac up`, or name another with --url."

    async def _persist(self, once: Callable[[], Awaitable[T]], subject: str, timeout: float, verb: str) -> T:
        deadline, pause = time.monotonic() + timeout, 0.05
        while True:
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.01)):
                    return await once()
            except APIError as error:
                if error.code is not None and 400 <= error.code < 500 and error.code != 408:
                    raise BivouacError(f"The network does not store this: {error.description}.") from error
                failure: Exception = error
            except (NoStreamResponseError, nats.errors.Error, TimeoutError, OSError) as error:
                failure = error
            if self._forbidden(subject):
                raise NotAllowed(f"The network does not let {self.identity} {verb} {subject}.") from failure
            if time.monotonic() + pause >= deadline:
                raise Unreachable(
                    f"No answer on {subject} within {timeout:.0f} s: is every service up? Asking again is safe."
                ) from failure
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_SECONDS_MAX)

    def _forbidden(self, subject: str) -> bool:
        return any(
            "permissions violation" in complaint.lower() and f'"{subject.lower()}"' in complaint.lower()
            for complaint in self._complaints
        )


M = TypeVar("M", bound=Message)


def stamped(message: M) -> M:
    """With an id that nobody can guess, and the time, unless it has its own."""
    return message.stamped(new_id("msg"), time.time_ns() // 1_000_000)


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(10)}"


def checked(message: Message) -> bytes:
    """The body, read back as its receiver will read it; raises Invalid before anything is sent."""
    body = encode(message)
    try:
        decode(type(message), message.subject(), body)
    except Malformed as error:
        raise Invalid(str(error)) from error
    return body
