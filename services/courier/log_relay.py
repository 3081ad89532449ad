"""Carries log lines live from the node that runs a job to the partner who owns it; never stored, never awaited."""

import asyncio
import time

from nats.aio.msg import Msg

from libs.bus.reach import Reach
from libs.clock import now_ms
from services.courier.store import Route, Rows
from wire.job import JobLog, NodeJobLog
from wire.message import Malformed, decode, encode

Key = tuple[str, str, str]
_REFRESH_SECONDS = 1.0
_SOONEST_REFRESH_SECONDS = 0.05


class LogRelay:
    """One job's lines pass at most `messages_per_second`; what is beyond that shows as a gap in `sequence`.

    A line is looked up in a view of the routes. An unknown job has the view read anew, but once a node and second, and
    no sooner than some milliseconds after the last time: who floods his log with invented jobs costs look-ups only.
    """

    def __init__(self, reach: Reach, messages_per_second: int) -> None:
        self._reach = reach
        self._rate = messages_per_second
        self._routes: dict[Key, Route] = {}
        self._passed: dict[Key, int] = {}
        self._asked: set[str] = set()
        self._refreshed = 0.0

    async def run(self) -> None:
        subscription = await self._reach.nats.subscribe(NodeJobLog.pattern(), cb=self._carry)
        try:
            while True:
                await self._refresh()
                self._passed.clear()
                self._asked.clear()
                await asyncio.sleep(_REFRESH_SECONDS)
        finally:
            await subscription.unsubscribe()

    async def _refresh(self) -> None:
        self._refreshed = time.monotonic()
        routes = await self._reach.transact("routes", Rows.routes)
        self._routes = {(route.node_id, route.booking_id, route.job_id): route for route in routes}

    async def _carry(self, message: Msg) -> None:
        try:
            lines = decode(NodeJobLog, message.subject, message.data)
        except Malformed:
            return
        key = (lines.node_id, lines.booking_id, lines.job_id)
        if key not in self._routes and lines.node_id not in self._asked:
            # A job's first lines come sooner than the next turn.
            self._asked.add(lines.node_id)
            await asyncio.sleep(self._refreshed + _SOONEST_REFRESH_SECONDS - time.monotonic())
            await self._refresh()
        route = self._routes.get(key)
        if route is None:
            return
        self._passed[key] = self._passed.get(key, 0) + 1
        if self._passed[key] > self._rate * _REFRESH_SECONDS:
            return
        out = JobLog(
            id=lines.id,
            at=now_ms(),
            partner=route.partner,
            booking_id=lines.booking_id,
            job_id=lines.job_id,
            sequence=lines.sequence,
            lines=lines.lines,
        )
        await self._reach.nats.publish(out.subject(), encode(out))
