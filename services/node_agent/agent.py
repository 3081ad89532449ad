"""The agent: connects under its own key, says it is alive, and obeys the commands addressed to it."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from libs.bus import ask, ready
from libs.clock import now_ms
from libs.ids import new_id
from libs.nkey import Nkey
from services.node_agent.gpu import Gpu
from services.node_agent.jobs import Jobs
from services.node_agent.leases import Leases
from services.node_agent.probes import ProbeWorker
from services.node_agent.spool import Spool
from wire.catalog import message_on
from wire.job import RunJob, StopJob
from wire.message import Event, Malformed, Message, Telemetry, decode, encode
from wire.names import JETSTREAM_DOMAIN, NODE_COMMANDS_STREAM, node_consumer
from wire.node import Heartbeat, NodeJoined, NodeLeaving, StartRayNode, StopRayNode
from wire.probe import Probe, ProveGpu
from wire.values import NodeSpec

HEARTBEAT_SECONDS = 5.0
_FETCH_SECONDS = 20.0
_PAUSE_SECONDS = 0.5
_DRAIN_SECONDS = 30.0
_TELEMETRY_WAITING_MAX = 1000
_PROOFS_AT_ONCE = 128

log = logging.getLogger("agent")


class Agent:
    """One node on the network. `boot_id` is new with every process, so that a restart cannot pass for a hiccup."""

    def __init__(
        self, url: str, key: Nkey, spec: NodeSpec, cards: list[Gpu], directory: Path, ready_file: str = ""
    ) -> None:
        self._url, self._key, self._spec = url, key, spec
        self.node_id = key.public_key
        self.boot_id = new_id("boot")
        self._spool = Spool(directory / "spool.sqlite")
        self._waiting = asyncio.Event()
        self._stopping = asyncio.Event()
        self._telling: asyncio.Queue[Telemetry] = asyncio.Queue(_TELEMETRY_WAITING_MAX)
        self._client: Client | None = None
        self._asking: asyncio.Task[list[Msg]] | None = None
        self._ready_file = ready_file
        self._probes = ProbeWorker(cards)
        self._proving: set[asyncio.Task[None]] = set()
        self._leases = Leases(self.node_id, spec, cards, directory, self.say)
        self._jobs = Jobs(self.node_id, self._leases, self.say, self.tell, self._jetstream)
        self._orders: dict[type[Message], Callable[[Any], Awaitable[None]]] = {
            StartRayNode: self._leases.start,
            StopRayNode: self._leases.stop,
            RunJob: self._jobs.run,
            StopJob: self._jobs.stop,
        }

    def say(self, event: Event) -> None:
        """Tell the network, surely: the event is kept until the stream has it."""
        self._spool.put(event.stamped(new_id(event.verb()), now_ms()))
        self._waiting.set()

    def tell(self, telemetry: Telemetry) -> None:
        """Tell the network, perhaps: lost while the bus is away."""
        if self._is_connected():
            with contextlib.suppress(asyncio.QueueFull):
                self._telling.put_nowait(telemetry.stamped(new_id(telemetry.verb()), now_ms()))

    async def run(self) -> None:
        """Until `leave` is called; raises nothing on account of the bus."""
        self.say(NodeJoined(id=f"{self.boot_id}/joined", node_id=self.node_id, boot_id=self.boot_id, spec=self._spec))
        self._client = await self._connect()
        duties = (
            *(self._beat(), self._send_telemetry(), self._publish(), self._obey()),
            *(self._leases.guard(), self._answer_probes(), ready.keep(self._ready_file, self._is_connected)),
        )
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(duty) for duty in duties]
        stopping: asyncio.Task[Any] = asyncio.create_task(self._stopping.wait())
        done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._end()
        for task in done - {stopping}:
            task.result()

    async def leave(self) -> None:
        """Drain: take no more leases, say so, wait for what runs (bounded), and stop."""
        if self._leases.draining:
            self._stopping.set()
            return
        self._leases.draining = True
        self.say(NodeLeaving(node_id=self.node_id, boot_id=self.boot_id))
        self._beat_once()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._leases.idle()
                while self._spool.waiting(1):  # noqa: ASYNC110 - a file has no event to wait for
                    await asyncio.sleep(0.05)
        self._stopping.set()

    async def _end(self) -> None:
        self._probes.stop()
        await self._leases.end_all()
        if self._client is not None:
            with contextlib.suppress(NatsError, TimeoutError, OSError):
                await self._client.drain()
        self._spool.close()

    async def _connect(self) -> Client:
        """Patient: a network that is down, or a gate that is restarting, is tried until it is there."""
        while True:
            try:
                return await ask.connect(
                    self._url, self._key.seed, self.node_id, reconnected=self._reconnected, closed=self._closed
                )
            except (NatsError, OSError, TimeoutError) as error:
                log.warning("cannot join %s yet: %s", self._url, error)
                await asyncio.sleep(_PAUSE_SECONDS)

    def _is_connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    async def _connected(self) -> Client:
        while self._client is None or self._client.is_closed:  # noqa: ASYNC110 - nats-py offers nothing to wait for
            await asyncio.sleep(_PAUSE_SECONDS)
        return self._client

    async def _jetstream(self) -> JetStreamContext:
        return (await self._connected()).jetstream(domain=JETSTREAM_DOMAIN)

    async def _reconnected(self) -> None:
        self._beat_once()
        self._waiting.set()
        if self._asking is not None:
            self._asking.cancel()  # the server has forgotten that we asked for commands: ask anew

    async def _closed(self) -> None:
        """The server refused a reconnect (a gate that was away, a ban): begin anew, and keep trying."""
        if not self._stopping.is_set():
            log.warning("the network closed the connection; joining anew")
            await asyncio.sleep(_PAUSE_SECONDS)
            self._client = await self._connect()
            await self._subscribe_probes()
            await self._reconnected()

    def _beat_once(self) -> None:
        self.tell(
            Heartbeat(
                node_id=self.node_id,
                boot_id=self.boot_id,
                leases=self._leases.live(),
                draining=self._leases.draining,
            )
        )

    async def _beat(self) -> None:
        while True:
            self._beat_once()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _send_telemetry(self) -> None:
        while True:
            message = await self._telling.get()
            with contextlib.suppress(NatsError, OSError):
                await (await self._connected()).publish(message.subject(), encode(message))

    async def _publish(self) -> None:
        """Empty the spool in order; what is not acknowledged is tried again under the same id."""
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            while waiting := self._spool.waiting():
                jetstream = await self._jetstream()
                try:
                    for number, subject, body, deduplication in waiting:
                        await jetstream.publish(subject, body, timeout=5, headers={"Nats-Msg-Id": deduplication})
                        self._spool.published(number)
                except (NatsError, OSError, TimeoutError) as error:
                    log.warning("cannot publish yet: %s", error)
                    await asyncio.sleep(_PAUSE_SECONDS)

    async def _obey(self) -> None:
        """Take commands from this node's own consumer, for ever."""
        while True:
            client = await self._connected()
            try:
                jetstream = await self._jetstream()
                durable = node_consumer(self.node_id)
                subscription = await jetstream.pull_subscribe_bind(durable=durable, stream=NODE_COMMANDS_STREAM)
                while client is self._client:
                    for message in await self._asked(subscription):
                        await self._carry_out(message)
            except (NatsError, OSError) as error:
                log.debug("commands: %s", error)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _asked(self, subscription: JetStreamContext.PullSubscription) -> list[Msg]:
        """The next command, or none when there is a reason to ask again."""
        # One at a time: nats-py holds a larger batch back until it is full or its time is over.
        self._asking = asyncio.create_task(subscription.fetch(1, timeout=_FETCH_SECONDS))
        try:
            await asyncio.wait([self._asking])
            return [] if self._asking.cancelled() else self._asking.result()
        except TimeoutError:
            return []
        finally:
            self._asking.cancel()

    async def _carry_out(self, message: Msg) -> None:
        kind = message_on(message.subject)
        order = self._orders.get(kind) if kind else None
        if kind is None or order is None:
            log.error("no such command: %s", message.subject)
            await message.term()
            return
        try:
            command = decode(kind, message.subject, message.data)
        except Malformed as error:
            log.error("a command cannot be read: %s", error)
            await message.term()
            return
        if self._spool.first_time(command.id):
            await order(command)
        await message.ack()

    async def _answer_probes(self) -> None:
        await self._subscribe_probes()
        await asyncio.Event().wait()

    async def _subscribe_probes(self) -> None:
        async def answer(message: Msg) -> None:
            with contextlib.suppress(Malformed):
                await message.respond(await self._probes.answer(message.subject, message.data))

        async def prove(message: Msg) -> None:
            with contextlib.suppress(Malformed):
                await message.respond(await self._probes.prove(message.subject, message.data))

        async def begin_proof(message: Msg) -> None:
            # A task each: a subscription hands over one message after another, and all cards prove at once.
            if len(self._proving) < _PROOFS_AT_ONCE:
                task = asyncio.create_task(prove(message))
                self._proving.add(task)
                task.add_done_callback(self._proving.discard)

        client = await self._connected()
        await client.subscribe(Probe.pattern(node_id=self.node_id), cb=answer)
        await client.subscribe(ProveGpu.pattern(node_id=self.node_id), cb=begin_proof)
