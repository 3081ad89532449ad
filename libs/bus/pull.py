"""Pulling from a durable consumer: whatever waits now, as one list, through FastStream, with no wait for a full batch.

FastStream's own batch subscriber waits until a batch is full or its time is over, which every message pays; its
one-message path costs 75-115 µs each. Here a request for messages is always open at the server, what arrives is put
aside as it comes, and each round takes all of it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from faststream import AckPolicy
from faststream._internal.broker.registrator import Registrator
from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream.nats import NatsBroker, PullSub
from faststream.nats.message import NatsBatchMessage
from faststream.nats.schemas import JStream
from faststream.nats.subscriber.config import NatsSubscriberConfig, NatsSubscriberSpecificationConfig
from faststream.nats.subscriber.specification import NatsSubscriberSpecification
from faststream.nats.subscriber.usecases import BatchPullStreamSubscriber
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

_EXPIRES_SECONDS, _HEARTBEAT_SECONDS = 30.0, 5.0
_GONE = "the consumer is gone"
_REQUEST_OVER = {"404", "408", "409"}

log = logging.getLogger("bus")


class Pull:
    """The open request at the server, and what has come of it and not been taken yet."""

    def __init__(self, client: Client, stream: str, durable: str, group_size: int, mend: Callable[[], Awaitable[None]]):
        self._client = client
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._group_size = group_size
        # One group in hand at the handlers and one on its way: more would only wait here instead of at the server.
        self._ahead = 2 * group_size
        self._mend = mend
        self._owed = 0
        self._gone = False
        self._news = asyncio.Event()
        self._subscription: Subscription | None = None
        self.waiting: deque[Msg] = deque()

    async def open(self) -> None:
        self._inbox = self._client.new_inbox()
        # The request bounds what can come, so these limits never drop anything.
        self._subscription = await self._client.subscribe(
            self._inbox, cb=self._arrived, pending_msgs_limit=0, pending_bytes_limit=0
        )

    async def group(self) -> list[Msg]:
        """Whatever waits now, at most a group; waits for the first. Empty when there is a reason to look again."""
        if self._gone:
            await self._mend()
            self._gone, self._owed = False, 0
        await self._request()
        if not self.waiting:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), 2.2 * _HEARTBEAT_SECONDS)
            except TimeoutError:
                self._owed = 0  # not even a heartbeat: the server has forgotten the request
        return [self.waiting.popleft() for _ in range(min(len(self.waiting), self._group_size))]

    def renew(self) -> None:
        """After a reconnect: the server knows no request of ours."""
        self._owed = 0
        self._news.set()

    async def unsubscribe(self) -> None:
        """Takes no more, and hands back at once what nobody has taken."""
        if self._subscription is None:
            return
        try:
            await self._subscription.unsubscribe()
            while self.waiting:
                await self._client.publish(self.waiting.popleft().reply, b"-NAK")
        except NatsError as error:
            log.debug("unsubscribing: %s", error)

    async def _request(self) -> None:
        room = self._ahead - self._owed - len(self.waiting)
        if room < self._group_size or not self._client.is_connected:
            return
        request = {
            "batch": room,
            "expires": int(_EXPIRES_SECONDS * 1e9),
            "idle_heartbeat": int(_HEARTBEAT_SECONDS * 1e9),
        }
        self._owed += room
        await self._client.publish(self._subject, json.dumps(request).encode(), self._inbox)

    async def _arrived(self, message: Msg) -> None:
        if message.reply.startswith("$JS.ACK."):
            self.waiting.append(message)
            self._owed -= 1
        else:
            self._told(message.headers or {})
        self._news.set()

    def _told(self, headers: dict[str, str]) -> None:
        status = headers.get("Status", "")
        if status in _REQUEST_OVER:
            self._owed = max(0, self._owed - int(headers.get("Nats-Pending-Messages", self._owed)))
            self._gone = "Consumer Deleted" in headers.get("Description", "")
        elif status == "503":
            self._gone = True


class GroupSubscriber(BatchPullStreamSubscriber):
    """FastStream's batch subscriber, fed by a Pull: its life cycle, middlewares and handler call, our fetching."""

    def __init__(self, *args: Any, durable: str, mend: Callable[[], Awaitable[None]], **options: Any) -> None:
        super().__init__(*args, **options)
        self._durable, self._mend = durable, mend
        self._parser, self._decoder = _parse, _decode
        self.pull: Pull | None = None

    async def _create_subscription(self) -> None:
        if self.subscription:
            return
        self.pull = Pull(self.connection, self.stream.name, self._durable, self.pull_sub.batch_size, self._mend)
        await self.pull.open()
        self.subscription = cast("Any", self.pull)
        self.add_task(self._consume_pull)

    async def _consume_pull(self) -> None:
        assert self.pull is not None
        while self.running:
            group = await self.pull.group()
            if group:
                await self.consume(group)


async def _parse(group: list[Msg]) -> NatsBatchMessage:
    return NatsBatchMessage(raw_message=group, body=b"")


async def _decode(message: NatsBatchMessage) -> list[Msg]:
    return message.raw_message


def subscribe(
    broker: NatsBroker,
    stream: str,
    durable: str,
    group_size: int,
    settle: Callable[[list[Msg]], Awaitable[None]],
    mend: Callable[[], Awaitable[None]],
) -> GroupSubscriber:
    """Register a subscriber: groups go to `settle`, which alone acknowledges; `mend` makes a lost consumer anew."""
    outer: Any = broker.config
    config = NatsSubscriberConfig(
        subject="",
        sub_config=ConsumerConfig(filter_subjects=[]),
        extra_options={},
        no_reply=True,
        _outer_config=outer,
        _ack_policy=AckPolicy.MANUAL,
    )
    calls: CallsCollection[Any] = CallsCollection()
    specification = NatsSubscriberSpecification(
        _outer_config=outer,
        calls=calls,
        specification_config=NatsSubscriberSpecificationConfig(
            subject=stream, queue=None, title_=None, description_=None, include_in_schema=False
        ),
    )
    subscriber = GroupSubscriber(
        config,
        specification,
        calls,
        durable=durable,
        mend=mend,
        stream=JStream(stream, declare=False),
        pull_sub=PullSub(batch_size=group_size, batch=True),
    )
    # What NatsBroker.subscriber does with what its factory makes.
    Registrator.subscriber(broker, cast("Any", subscriber))
    subscriber(settle)
    return subscriber


Pulls = Sequence[GroupSubscriber]
