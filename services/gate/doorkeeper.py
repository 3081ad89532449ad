"""Answers the server about each client that comes, and ends the connections that may no longer be.

It begins to answer only when it knows who is banned; while it cannot answer, nobody new comes in.
"""

import asyncio
import logging
import time
from contextlib import suppress

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from libs import nats_keys
from libs.bus import ask
from libs.bus.reach import Reach
from libs.clock import now_ms
from libs.nats_keys import Kind
from services.gate.answer import Signet
from services.gate.connections import Connection, Connections
from services.gate.directory import Directory
from services.gate.domain.admission import Admitted, Denied, admit
from services.gate.provision import Provisions
from services.gate.request import SERVER_KEY_HEADER, Door, NotBelieved, Question
from services.gate.settings import Settings, seed_in

QUESTIONS = "$SYS.REQ.USER.AUTH"
_QUEUE = "gate"
_MAKING_MAX = 64
_MAKE_SECONDS = 0.7  # the server waits little longer than that for the whole answer
_REFRESH_SECONDS = 5.0

_DENIALS_A_SECOND = 50

log = logging.getLogger("gate")


class _Denials:
    """A line for each who stays outside, and one for all the others while there are too many of them."""

    def __init__(self) -> None:
        self._second, self._count = 0, 0

    def note(self, question: Question, denied: Denied, now: int) -> None:
        if now != self._second:
            if self._count > _DENIALS_A_SECOND:
                log.warning("denied %d more", self._count - _DENIALS_A_SECOND)
            self._second, self._count = now, 0
        self._count += 1
        if self._count <= _DENIALS_A_SECOND:
            who = question.connect_opts.nkey if question.signed_by_client else "an unproven key"
            log.warning("denied %s from %s: %s", who, question.client_info.host[:64], denied.reason)


class Doorkeeper:
    """One replica of the gate, at the server's door."""

    def __init__(self, reach: Reach, settings: Settings, operators: dict[str, str]) -> None:
        self._reach, self._settings = reach, settings
        self._directory = Directory(operators)
        self._connections = Connections(reach.nats)
        self._provisions = Provisions(reach.jetstream)
        self._curve_seed = seed_in(settings.curve_seed_file, Kind.CURVE)
        self._signet = Signet(
            seed_in(settings.issuer_seed_file, Kind.ACCOUNT),
            settings.inside_account,
            settings.outside_account,
            settings.jwt_seconds,
        )
        self._making: set[asyncio.Task[None]] = set()
        self._denials = _Denials()

    async def run(self) -> None:
        """Until it is cancelled; raises when it can answer no longer, to be started again."""
        listening = [
            *await self._directory.listen(self._reach.nats, self._banned, self._registered),
            await self._connections.listen(self._came),
        ]
        callout: Client | None = None
        try:
            await self._refresh(anew=True)
            over = asyncio.Event()
            callout = await self._stand_at_the_door(over)
            await self._keep_fresh(over)
        finally:
            for task in self._making:
                task.cancel()
            for subscription in listening:
                with suppress(NatsError):
                    await subscription.unsubscribe()
            if callout is not None:
                await callout.close()

    async def _keep_fresh(self, over: asyncio.Event) -> None:
        seen = self._reach.nats.stats["reconnects"]
        while not over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), _REFRESH_SECONDS)
            reconnects = self._reach.nats.stats["reconnects"]
            try:
                await self._refresh(anew=reconnects != seen)
                seen = reconnects
            except (NatsError, TimeoutError) as error:
                log.warning("cannot ask who is connected: %s", type(error).__name__)
        raise ConnectionError("the server ended the callout's connection")

    async def _refresh(self, anew: bool) -> None:
        """`anew`: advisories were missed, or the server is another one."""
        for key in await self._directory.read(self._reach, now_ms()):
            await self._banned(key)
        if anew:
            self._provisions.forget()
            await self._connections.learn()
        for identity in self._connections.identities():
            await self._end_surplus(identity)

    async def _stand_at_the_door(self, over: asyncio.Event) -> Client:
        async def closed() -> None:
            over.set()

        async def reconnected() -> None:
            door[0] = self._door(client)

        settings = self._settings
        client = await ask.connect(
            settings.nats_url,
            name="callout",
            seed_file=settings.callout_seed_file,
            reconnected=reconnected,
            closed=closed,
        )
        door = [self._door(client)]  # a server that was restarted has another key

        async def asked(message: Msg) -> None:
            try:
                await self._asked(client, door[0], message)
            except NatsError as error:
                log.warning("cannot answer the server: %s", error)
            except Exception:
                log.exception("a question that was not foreseen")

        await client.subscribe(QUESTIONS, queue=_QUEUE, cb=asked)
        log.info("at the door")
        return client

    def _door(self, client: Client) -> Door:
        server = "" if self._settings.trust_any_server else str(client._server_info["server_id"])
        return Door(self._curve_seed, self._signet.public_key, server)

    async def _asked(self, client: Client, door: Door, message: Msg) -> None:
        server_key = (message.headers or {}).get(SERVER_KEY_HEADER, "")
        try:
            question = door.open(message.data, server_key, int(time.time()))
        except NotBelieved as error:
            log.warning("a question is not believed: %s", error)
            return
        verdict = self._judge(question)
        if isinstance(verdict, Denied) or self._provisions.ready(verdict):
            await self._answer(client, message.reply, server_key, question, verdict)
            return
        if len(self._making) >= _MAKING_MAX:
            await self._answer(client, message.reply, server_key, question, Denied("too many newcomers at once"))
            return
        task = asyncio.create_task(self._make_and_answer(client, message.reply, server_key, question, verdict))
        self._making.add(task)
        task.add_done_callback(self._making.discard)

    def _judge(self, question: Question) -> Admitted | Denied:
        if not question.signed_by_client:
            return Denied("wrong signature")
        options = question.connect_opts
        verdict = admit(options.nkey, options.auth_token, self._directory.known)
        if (
            isinstance(verdict, Admitted)
            and verdict.role != "node"
            and self._connections.count(verdict.identity) >= self._settings.connections_max
        ):
            return Denied("too many connections")
        return verdict

    async def _make_and_answer(
        self, client: Client, reply: str, server_key: str, question: Question, admitted: Admitted
    ) -> None:
        verdict: Admitted | Denied = admitted
        try:
            async with asyncio.timeout(_MAKE_SECONDS):
                await self._provisions.make(admitted)
        except (NatsError, TimeoutError) as error:
            log.warning("cannot make what %s needs: %s", admitted.identity, type(error).__name__)
            verdict = Denied("not ready, try again")
        await self._answer(client, reply, server_key, question, verdict)

    async def _answer(
        self, client: Client, reply: str, server_key: str, question: Question, verdict: Admitted | Denied
    ) -> None:
        now = int(time.time())
        if isinstance(verdict, Denied):
            self._denials.note(question, verdict, now)
        token = self._signet.answer(question, verdict, now)
        await client.publish(reply, nats_keys.seal(self._curve_seed, server_key, token))

    async def _came(self, identity: str, _: Connection) -> None:
        await self._end_surplus(identity)

    async def _end_surplus(self, identity: str) -> None:
        """A banned identity has no connection, and a node one, the newest: of two holders of a key, the first is gone
        or the key was copied, and two nodes must not take turns at one lease."""
        connections = self._connections.of(identity)
        if identity in self._directory.shut_out:
            await self._connections.kick(connections)
            return
        outside = [one for one in connections if one.account == self._settings.outside_account]
        if len(outside) > 1 and identity not in self._directory.known.partners.values():
            log.warning("%s has %d connections: the newest stays", identity, len(outside))
            await self._connections.kick(outside[:-1])

    async def _banned(self, key: str) -> None:
        for identity in {key, self._directory.known.identity_of(key)}:
            await self._end_surplus(identity)

    async def _registered(self, key: str) -> None:
        """Whoever came in as a node under this key comes in again, as the partner; his bucket is waiting."""
        await self._connections.kick(self._connections.of(key))
        try:
            await self._provisions.make(Admitted("partner", self._directory.known.partners[key]))
        except (NatsError, TimeoutError) as error:
            log.warning("the bucket will be made when the partner comes: %s", type(error).__name__)
