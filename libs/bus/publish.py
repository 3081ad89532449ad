"""Publishing a group of messages to one stream: few singly and pipelined, many as one atomic batch; never out of order.

Measured with every write synced (2 cores, 250-byte bodies): singly 0.21 ms a message whatever is in flight, since each
is synced for itself; a batch 2.2 ms and then 14 µs a message. They meet at 11; a slower disk only favours the batch.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from libs.ids import new_id
from wire.message import deduplication_id

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from libs.bus.outbox import Unsent

BATCH_MIN = 12
BATCH_MAX = 1000
"""The server takes no larger batch."""

_ACK_SECONDS = 5.0
_DUPLICATE_IN_BATCH = 10201


class NotStored(Exception):
    """The stream did not take (all of) a group; what it has taken is in `sequences`, by place, None elsewhere."""

    def __init__(self, sequences: list[int | None], why: str) -> None:
        super().__init__(why)
        self.sequences = sequences


class Publisher:
    """Publishes groups and waits for their acknowledgements; one group at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._prefix = ""
        self._round = 0
        self._answers: list[bytes | None] = []
        self._due = 0
        self._lost = False
        self._all_in = asyncio.Event()

    async def open(self) -> None:
        self._prefix = self._client.new_inbox()
        await self._client.subscribe(f"{self._prefix}.*.*", cb=self._answered)

    def abandon(self) -> None:
        """The connection was lost: the answers that are due will never come."""
        if self._due:
            self._lost = True
            self._all_in.set()

    async def publish(self, rows: Sequence[Unsent]) -> list[int]:
        """The sequence numbers of these rows of one stream; raises NotStored, after which all may be tried again."""
        if len(rows) >= BATCH_MIN:
            sequences = await self._in_batch(rows)
            if sequences is not None:
                return sequences
        return await self._singly(rows)

    async def _singly(self, rows: Sequence[Unsent]) -> list[int]:
        reply = self._expect(len(rows))
        for place, row in enumerate(rows):
            await self._client.publish(row.subject, row.body, f"{reply}.{place}", _headers(row))
        why = await self._wait()
        sequences: list[int | None] = []
        for answer in self._answers:
            sequence, error = _sequence(answer)
            sequences.append(sequence)
            why = why or error
        if None in sequences:
            raise NotStored(sequences, why)
        return [sequence for sequence in sequences if sequence is not None]

    async def _in_batch(self, rows: Sequence[Unsent]) -> list[int] | None:
        """None where the batch was refused whole because the stream has one of its messages already."""
        batch, last = new_id(), len(rows)
        reply = self._expect(1)
        for nth, row in enumerate(rows, start=1):
            headers = {**_headers(row), "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(nth)}
            if nth == last:
                headers["Nats-Batch-Commit"] = "1"
            await self._client.publish(row.subject, row.body, f"{reply}.0" if nth == last else "", headers)
        why = await self._wait()
        answer = self._answers[0]
        sequence, error = _sequence(answer)
        if sequence is not None:
            return list(range(sequence - last + 1, sequence + 1))
        if answer and json.loads(answer).get("error", {}).get("err_code") == _DUPLICATE_IN_BATCH:
            return None
        raise NotStored([None] * last, why or error)

    def _expect(self, answers: int) -> str:
        self._round += 1
        self._answers = [None] * answers
        self._due = answers
        self._lost = False
        self._all_in.clear()
        return f"{self._prefix}.{self._round}"

    async def _wait(self) -> str:
        try:
            await asyncio.wait_for(self._all_in.wait(), _ACK_SECONDS)
        except TimeoutError:
            self._lost = True
        if self._lost:
            self._round += 1  # what comes later is of no use: everything is sent again under the same ids
        self._due = 0
        return "no answer" if self._lost else ""

    async def _answered(self, message: Msg) -> None:
        current, place = message.subject.rsplit(".", 2)[1:]
        if int(current) != self._round or self._answers[int(place)] is not None:
            return
        self._answers[int(place)] = message.data
        self._due -= 1
        if not self._due:
            self._all_in.set()


def _headers(row: Unsent) -> dict[str, str]:
    headers: dict[str, str] = msgspec.json.decode(row.headers)
    headers["Nats-Msg-Id"] = deduplication_id(row.message_id, row.body)
    return headers


def _sequence(answer: bytes | None) -> tuple[int | None, str]:
    """A number, or why there is none; an empty body is the server's way to say that no stream listens."""
    if answer is None:
        return None, "no answer"
    if not answer:
        return None, "no stream"
    acknowledged = json.loads(answer)
    if "error" in acknowledged:
        return None, f"{acknowledged['error'].get('description')} ({acknowledged['error'].get('err_code')})"
    return int(acknowledged["seq"]), ""
