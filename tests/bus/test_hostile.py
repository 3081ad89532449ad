"""Bytes that no client library would send: they harm neither the service nor what comes after them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.bus import tally
from tests.bus.tally import Add, Added
from tests.conftest import Running, until

Run = Callable[..., AbstractAsyncContextManager[Running]]


def hpub(subject: bytes, headers: bytes, body: bytes) -> bytes:
    block = b"NATS/1.0\r\n" + headers + b"\r\n"
    return b"HPUB %s %d %d\r\n%s%s\r\n" % (subject, len(block), len(block) + len(body), block, body)


@pytest.mark.parametrize(
    "raw",
    [
        b"PUB cmd.job.\xff\xfe.copy 2\r\n{}\r\n",
        b"PUB qry.tally.a.sum reply.\xff\xfe 2\r\n{}\r\n",
        b"PUB cmd.job.a.copy 3\r\n\xff\xfe\x00\r\n",
        hpub(b"cmd.job.a.copy", b"Nats-Msg-Id: \xff\xfe\r\n", b"{}"),
        hpub(b"cmd.job.a.copy", b"no colon at all\r\n", b"{}"),
        hpub(b"cmd.job.a.copy", b": no name\r\n\r\n\r\n", b"{}"),
        hpub(b"cmd.job.a.copy", b"traceparent: 00-zz\r\ncorrelation_id: \x00\x01\r\n", b"{}"),
        hpub(b"cmd.job.a.copy", b"Status: 409\r\nDescription: Consumer Deleted\r\n", b"{}"),
        b"NATS/1.0 503\r\n",
        hpub(b"cmd.operator.a.add", b"x: " + b"y" * 60_000 + b"\r\n", b"{}"),
        b"PUB cmd.operator.a.add 307000\r\n" + b"[" * 307_000 + b"\r\n",
    ],
)
async def test_hostile_bytes(running_service: Run, raw: bytes) -> None:
    async with running_service(tally.service()) as running:
        transport: Any = running.client._transport
        if raw.startswith((b"PUB", b"HPUB")):
            transport.write(raw)
        await running.client.flush()
        await running.publish(Add(who="a", n=1))
        await running.heard(Added, timeout=5)

        async def settled() -> bool:
            consumer = await running.client.jetstream().consumer_info("CMD", "counter")
            return not consumer.num_ack_pending and not consumer.num_pending

        await until(settled, timeout=10)
