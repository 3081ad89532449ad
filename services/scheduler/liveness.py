"""Listening to the fleet: heartbeats, the server's word on connections, and what they mean, written down at once.

Heartbeats come through a bare callback into memory; nothing here waits for the database but the losses themselves.
Each process listens to everything; that two of them say the same changes nothing, because the rows decide.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from libs.bus.reach import Reach
from libs.clock import now_ms
from libs.ids import new_id
from libs.local.nats import CONNECTED
from services.scheduler.advisories import CENSUSES, COMINGS_AND_GOINGS, Advisory, Beat, Census
from services.scheduler.domain.liveness import FleetView, Known, Lost
from services.scheduler.fleet import look_at_node, lose_node
from services.scheduler.settings import Settings
from services.scheduler.store import Rows
from wire.message import Malformed, decode
from wire.node import Heartbeat, NodeAdmitted, NodeLeaving

_TICK_SECONDS = 0.05
_STALL_MS = 2_000
_SILENCE_EVERY_MS = 1_000
_LEARN_SECONDS = 2.0
_STRANGER_SECONDS = (0.02, 2.0)
_STRANGERS_MAX = 10_000
_LEARN_OVERLAP_MS = 30_000
_KEEP_SEEN_SECONDS = 15.0
_CENSUS_SECONDS = 2.0
_CENSUS_PAGE = 1024
_TOGETHER_MAX = 64

log = logging.getLogger("liveness")


class Look(msgspec.Struct, frozen=True):
    """A node to look at in the rows."""

    node_id: str
    boot_id: str
    lease_ids: tuple[str, ...]


class Declared(msgspec.Struct, frozen=True):
    """A loss, with when the node was last alive; 0 where only the rows may know."""

    lost: Lost
    last_seen_at: int


def clock_ms() -> int:
    """Milliseconds of a clock that never jumps."""
    return time.monotonic_ns() // 1_000_000


class Liveness:
    """One process's ears. `hear` is the callback for heartbeats, `watch` the task beside the subscriptions."""

    def __init__(self, settings: Settings) -> None:
        self.view = FleetView(settings.rules())
        self._decode = msgspec.json.Decoder(Beat).decode
        self._hear = self.view.hear
        self._advisory = msgspec.json.Decoder(Advisory).decode
        self._before, self._after = Heartbeat.pattern().split("*")
        self._work: asyncio.Queue[Look | Declared] = asyncio.Queue()
        self._strangers: dict[str, str] = {}
        self._news = asyncio.Event()
        self._incomplete = asyncio.Event()

    def hear(self, subject: str, body: bytes) -> None:
        """A heartbeat; raises Malformed or a ValidationError, and nothing else happens."""
        beat = self._decode(body)
        node_id = beat.node_id
        if subject != self._before + node_id + self._after:
            raise Malformed(f"A heartbeat of {node_id} came on {subject}.")
        notice = self._hear(node_id, beat.boot_id, beat.leases, beat.draining, time.monotonic_ns() // 1_000_000)
        if notice == "look":
            self._work.put_nowait(Look(node_id, beat.boot_id, beat.leases))
        elif notice and len(self._strangers) < _STRANGERS_MAX:
            self._strangers[node_id] = beat.boot_id
            self._news.set()

    def last_seen(self, node_id: str) -> int:
        """Unix ms at which this process heard the node last; 0 for never."""
        pulse = self.view.pulses.get(node_id)
        return now_ms() - (clock_ms() - pulse.heard_at) if pulse is not None and pulse.ever_heard else 0

    async def watch(self, reach: Reach) -> None:
        """For as long as this connection lives."""
        heard = [
            await reach.nats.subscribe(COMINGS_AND_GOINGS, cb=self._come_or_go),
            # Beside the durable consumer, because there it may come after the news that the connection has closed.
            await reach.nats.subscribe(NodeLeaving.pattern(), cb=self._leave),
            await reach.nats.subscribe(NodeAdmitted.pattern(), cb=self._admit),
        ]
        try:
            await reach.nats.flush()
            self._begin()
            async with asyncio.TaskGroup() as tasks:
                for loop in (self._tick, self._count, self._learn, self._keep_seen, self._declare):
                    tasks.create_task(loop(reach))
        finally:
            for subscription in heard:
                with contextlib.suppress(NatsError):
                    await subscription.unsubscribe()

    def _begin(self) -> None:
        self.view.begin(clock_ms())
        self._incomplete.set()

    async def _come_or_go(self, message: Msg) -> None:
        told = self._advisory(message.data)
        if message.subject == CONNECTED:
            self.view.connect(told.client.user, told.connection)
            return
        lost = self.view.disconnect(told.client.user, told.connection, told.reason, clock_ms())
        if lost is not None:
            self._propose(lost)

    async def _leave(self, message: Msg) -> None:
        with contextlib.suppress(Malformed):
            leaving = decode(NodeLeaving, message.subject, message.data)
            self.view.drain(leaving.node_id, leaving.boot_id)

    async def _admit(self, message: Msg) -> None:
        self._news.set()

    def _propose(self, lost: Lost) -> None:
        log.info("a node is lost", extra={"data": {"node_id": lost.node_id, "reason": lost.reason}})
        seen_at = now_ms() - lost.seen_ms_ago if lost.seen_ms_ago is not None else 0
        self._work.put_nowait(Declared(lost, seen_at))

    async def _tick(self, reach: Reach) -> None:
        """Graces that are over. It waits for nothing but its own clock: when that stood still, we did not listen."""
        reconnects, before, scan_at = reach.nats.stats["reconnects"], clock_ms(), 0
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = clock_ms()
            if reach.nats.stats["reconnects"] != reconnects or now - before > _STALL_MS:
                reconnects = reach.nats.stats["reconnects"]
                self._begin()
            before = now
            if not reach.nats.is_connected:
                continue
            for lost in self.view.due(now):
                self._propose(lost)
            if now >= scan_at:
                scan_at = now + _SILENCE_EVERY_MS
                for lost in self.view.silent(now):
                    self._propose(lost)

    async def _count(self, reach: Reach) -> None:
        """Ask the server who is connected, each time we begin; who comes meanwhile is told by advisories."""
        while True:
            await self._incomplete.wait()
            self._incomplete.clear()
            try:
                found = await self._connections(reach)
            except (NatsError, TimeoutError, msgspec.MsgspecError) as error:
                log.warning("the server does not tell who is connected: heartbeats alone count (%s)", error)
                self._incomplete.set()
                await asyncio.sleep(_CENSUS_SECONDS)
                continue
            if not self._incomplete.is_set():
                self.view.complete_with(found, clock_ms())

    async def _connections(self, reach: Reach) -> list[tuple[str, str]]:
        """Every key with its connection, in every account, page by page."""
        found: list[tuple[str, str]] = []
        for subject in CENSUSES:
            with contextlib.suppress(NoRespondersError):  # a server that has no such account
                listed: list[tuple[str, str]] = []
                total = 1
                while len(listed) < total:
                    question = msgspec.json.encode({"auth": True, "limit": _CENSUS_PAGE, "offset": len(listed)})
                    answer = await reach.nats.request(subject, question, timeout=1.0)
                    page = msgspec.json.decode(answer.data, type=Census).data
                    listed += [(one.authorized_user, f"{page.server_id}/{one.cid}") for one in page.connections]
                    total = page.total if page.connections else 0
                found += listed
        if not found:
            raise TimeoutError("not even our own connection is told")
        return found

    async def _learn(self, reach: Reach) -> None:
        """What the rows say of nodes, whoever wrote it: at once when there is news, and every now and then.

        A process' first heartbeat often comes before its NodeJoined is committed: it is asked about in growing steps.
        """
        since, patience = 0, _STRANGER_SECONDS[0]
        while True:
            self._news.clear()
            asked_at, began = now_ms(), time.monotonic()

            async def ask(rows: Rows, since: int = since) -> list[Known]:
                return await rows.changed_nodes(since)

            for known in await reach.transact(new_id("learn"), ask):
                self.view.know(known, clock_ms())
                if self._strangers.get(known.node_id) == known.boot_id:
                    del self._strangers[known.node_id]
            since = asked_at - _LEARN_OVERLAP_MS
            # However much news there is, learning it takes a fifth of our time at most.
            await asyncio.sleep(max(patience, 4 * (time.monotonic() - began)))
            if self._strangers and patience < _STRANGER_SECONDS[1]:
                patience *= 2
                continue
            self._strangers.clear()
            patience = _STRANGER_SECONDS[0]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _LEARN_SECONDS)

    async def _keep_seen(self, reach: Reach) -> None:
        """For a successor of this process: without it he would not know how long a lost node had served."""
        while True:
            await asyncio.sleep(_KEEP_SEEN_SECONDS)
            leased = [node_id for node_id, pulse in self.view.pulses.items() if pulse.live and pulse.lease_ids]
            seen = {node_id: at for node_id in leased if (at := self.last_seen(node_id))}

            async def keep(rows: Rows, seen: dict[str, int] = seen) -> None:
                await rows.saw(seen)

            if seen:
                await reach.transact(new_id("seen"), keep)

    async def _declare(self, reach: Reach) -> None:
        """Write down what was concluded, all that waits in one transaction; one by one where that fails."""
        while True:
            work = [await self._work.get()]
            while not self._work.empty() and len(work) < _TOGETHER_MAX:
                work.append(self._work.get_nowait())
            try:
                await reach.transact(new_id("fleet"), _all(work))
            except Exception:
                log.exception("a group of losses failed")
                for one in work:
                    await self._declare_alone(reach, one)

    async def _declare_alone(self, reach: Reach, one: Look | Declared) -> None:
        try:
            await reach.transact(new_id("fleet"), _all([one]))
        except Exception:
            log.exception("a loss failed")
            if isinstance(one, Declared):
                self.view.doubt_again(one.lost, clock_ms())


def _all(work: list[Look | Declared]) -> Callable[[Rows], Awaitable[None]]:
    async def write(rows: Rows) -> None:
        for one in work:
            if isinstance(one, Look):
                await look_at_node(rows, one.node_id, one.boot_id, one.lease_ids)
            else:
                lost = one.lost
                await lose_node(rows, lost.node_id, lost.boot_id, lost.reason, one.last_seen_at)

    return write
