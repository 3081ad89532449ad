"""Serving a service: its tables become subscriptions on a FastStream broker, kept up whatever restarts around it."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import uvloop
from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.errors import Error as NatsError

from libs import logs, postgres, telemetry
from libs.bus import ask, pull, queries, ready, recurring, streams, telemetry_tap
from libs.bus.effects import Effects
from libs.bus.parking import Parking
from libs.bus.reach import Reach
from libs.bus.relay import Relay
from libs.bus.service import Service
from libs.bus.settle import Settler
from libs.bus.transactions import Transactions
from libs.settings import BusSettings
from wire.message import Command
from wire.streams import STREAMS, stream_of

_TICK_SECONDS = streams.ACK_WAIT_SECONDS / 3
_GRACE_SECONDS, _FINISH_SECONDS = 10.0, 2.0

log = logging.getLogger("bus")
_quiet = logging.getLogger("bus.faststream")
_quiet.setLevel(logging.WARNING)  # it would tell of every group, and of every task that ends


def run(service: Service, settings: BusSettings) -> None:
    """What a service's __main__ ends with: serves on uvloop, with JSON logs, until SIGTERM or SIGINT."""
    logs.setup(service.name, settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(service, settings))
    sys.exit(0)


async def serve(
    service: Service,
    settings: BusSettings,
    *,
    stop: asyncio.Event | None = None,
    started: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until `stop` is set; `started` is set when every subscription is open.

    A connection that the server ended for good is replaced by a new one; nothing but `stop` ends this.
    """
    if stop is None:
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
    if await _unless(stop, postgres.migrate(settings.database_url, ["libs.bus", service.migrations])):
        return
    pool = await postgres.pool(settings.database_url, service.name, settings.pool_size)
    tracing = telemetry.setup(service.name)
    transactions = Transactions(service, settings.database_url, tracing)
    try:
        while not stop.is_set():
            await _Session(service, settings, pool, transactions).run(stop, started)
    finally:
        await transactions.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), 2.0)
        if tracing is not None:
            await asyncio.to_thread(tracing.close)


class _Broker(NatsBroker):
    """FastStream's broker on a connection made as all of ours are.

    Its own way to connect raises from the error callback, which ends nats-py's reconnecting for ever.
    """

    def __init__(self, url: str, connect: Callable[[], Awaitable[Client]]) -> None:
        super().__init__(
            url, apply_types=False, graceful_timeout=_GRACE_SECONDS, logger=_quiet, log_level=logging.DEBUG
        )
        self._open = connect

    async def _connect(self) -> Client:
        client = await self._open()
        self.config.connect(client)
        return client


class _Session:
    """One connection's life: from connecting to `stop`, or to the day the server ends it."""

    def __init__(
        self, service: Service, settings: BusSettings, pool: postgres.Pool, transactions: Transactions
    ) -> None:
        self._service, self._settings, self._pool, self._transactions = service, settings, pool, transactions
        self._over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._pulls: list[pull.GroupSubscriber] = []
        self._relay: Relay | None = None
        self._settler: Settler | None = None
        self._broker = _Broker(settings.nats_url, self._connect)

    async def run(self, stop: asyncio.Event, started: asyncio.Event | None) -> None:
        if await _unless(stop, self._broker.connect()):
            return
        client = self._broker._connection
        assert client is not None
        self._over.clear()
        try:
            if await _unless(stop, self._open(client)):
                return
            if started is not None:
                started.set()
            log.info("serving")
            await _first(stop.wait(), self._over.wait())
        finally:
            await self._close()

    async def _connect(self) -> Client:
        async def reconnected() -> None:
            for subscriber in self._pulls:
                if subscriber.pull is not None:
                    subscriber.pull.renew()
            if self._relay is not None:
                self._relay.reconnected()

        async def closed() -> None:
            self._over.set()

        settings = self._settings
        return await ask.connect(
            settings.nats_url,
            name=self._service.name,
            seed_file=settings.nats_seed_file,
            reconnected=reconnected,
            closed=closed,
        )

    async def _open(self, client: Client) -> None:
        service, settings, transactions = self._service, self._settings, self._transactions
        self._relay = relay = Relay(service.name, client, settings, service.keep_days)
        transactions.wake, transactions.relay_is_here = relay.wake, lambda: relay.leads
        reach = Reach(client, client.jetstream(), self._pool, settings, transactions)
        self._effects = effects = Effects(service, transactions, use_inbox=settings.inbox)
        parking = Parking(service, transactions, client)
        self._settler = settler = Settler(service, transactions, parking, effects.start, use_inbox=settings.inbox)
        effects.reach, effects.settler = reach, settler
        for stream, subjects in filters(service).items():
            mend = self._mending(client, stream, subjects)
            await mend()
            subscriber = pull.subscribe(self._broker, stream, service.name, settings.group_size, settler.settle, mend)
            self._pulls.append(subscriber)
        queries.subscribe(self._broker, service, self._pool)
        await telemetry_tap.listen(client, service.hears, settler.counts)
        await self._broker.start()
        self._start(relay.run())
        self._start(_keep_alive(client, settler, self._pulls))
        for every in service.every:
            self._start(recurring.repeat(every, transactions))
        for task in service.background:
            self._start(recurring.keep_running(task, reach))
        self._start(ready.keep(settings.ready_file, lambda: client.is_connected))

    def _start(self, task: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(task))

    def _mending(self, client: Client, stream: str, subjects: list[str]) -> Callable[[], Awaitable[None]]:
        settings = self._settings

        async def make() -> None:
            await streams.ensure(client, STREAMS, settings.store_bytes, settings.replicas)
            await streams.ensure_consumer(client, stream, self._service.name, subjects)

        async def mend() -> None:
            await streams.until_there(f"{self._service.name} on {stream}", client, make)
            if self._relay is not None:
                self._relay.doubt()

        return mend

    async def _close(self) -> None:
        """Takes no more, finishes the group in hand, hands back the rest."""
        counts = {}
        if self._settler is not None:
            self._settler.stopping.set()
            counts = dict(self._settler.counts)
        try:
            async with asyncio.timeout(_GRACE_SECONDS + 5):
                for subscriber in self._broker.subscribers:
                    await subscriber.stop()
                # Only now: what is handed back while a request of ours is open would come straight back to us.
                if self._settler is not None:
                    await self._effects.stop()
                if self._relay is not None:
                    await self._relay.finish(_FINISH_SECONDS)
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await self._broker.stop()
        except (NatsError, TimeoutError, ExceptionGroup) as error:
            log.debug("closing: %s", error)
        for task in self._tasks:
            task.cancel()
        log.info("stopped", extra={"data": {"counts": counts}})


def filters(service: Service) -> dict[str, list[str]]:
    """The subjects of each stream that this service reads."""
    found: dict[str, set[str]] = {}
    for kind in (*service.handles, *service.effects):
        pattern = kind.pattern()
        first, noun = pattern.split(".", 2)[:2]
        if noun in service.owns and issubclass(kind, Command):
            pattern = f"{first}.{noun}.>"
        found.setdefault(stream_of(pattern).name, set()).add(pattern)
    return {stream: sorted(subjects) for stream, subjects in found.items()}


async def _keep_alive(client: Client, settler: Settler, pulls: pull.Pulls) -> None:
    """Tell the server about messages that are in hand for long, so that it does not deliver them elsewhere."""
    before: set[str] = set()
    while True:
        await asyncio.sleep(_TICK_SECONDS)
        now = set(settler.held)
        for subscriber in pulls:
            if subscriber.pull is not None:
                now.update(message.reply for message in subscriber.pull.waiting)
        with suppress(NatsError):
            for reply in now & before:
                await client.publish(reply, b"+WPI")
        before = now


async def _unless(stop: asyncio.Event, work: Awaitable[Any]) -> bool:
    """Do the work, unless `stop` is set first: then True."""
    task = asyncio.ensure_future(work)
    await _first(task, stop.wait())
    if task.done():
        task.result()
        return False
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return True


async def _first(*works: Awaitable[Any]) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task, work in zip(tasks, works, strict=True):
        if task in pending and task is not work:
            task.cancel()
