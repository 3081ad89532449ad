"""Questions: answered, refused in words, and asked again while a service or its database restarts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from libs.bus import ask
from libs.local.servers import LocalServers
from tests.bus import tally
from tests.bus.tally import Add, Added, GetTally, Ping, Tally
from tests.conftest import Running
from wire.message import Query, Reply, encode

Run = Callable[..., AbstractAsyncContextManager[Running]]


class No(Reply, frozen=True, kw_only=True):
    reason: str


def refuse_query(_subject: str, reason: str, _detail: str) -> Reply:
    return No(reason=reason)


async def test_many_ask_at_once(running_service: Run) -> None:
    async with running_service(tally.service()) as running:
        await running.publish(Add(who="a", n=5))
        await running.heard(Added)
        asking = [ask.ask(running.client, GetTally(who="a"), Tally) for _ in range(100)]
        assert await asyncio.gather(*asking) == [Tally(rows=1, total=5)] * 100


async def test_a_query_that_is_none_gets_the_services_words(running_service: Run) -> None:
    async with running_service(tally.service(refuse_query=refuse_query)) as running:
        answer = await running.client.request(GetTally.pattern(who="a"), b"{}")
        assert answer.data == encode(No(reason="malformed"))


async def test_without_words_it_gets_an_error_header(running_service: Run) -> None:
    async with running_service(tally.service()) as running:
        answer = await running.client.request(GetTally.pattern(who="a"), b"{}")
        assert answer.headers is not None
        assert answer.headers[ask.ERROR_CODE_HEADER] == "400"


async def test_an_answer_cannot_write(running_service: Run) -> None:
    async def write(query: Query, rows: tally.Rows) -> Tally:
        await rows.add("a", 1)
        return Tally(rows=1, total=1)

    async with running_service(tally.service(answers={GetTally: write})) as running:
        with pytest.raises(ask.AskFailed):
            await ask.ask(running.client, GetTally(who="a"), Tally)


async def test_one_who_asks_too_early_waits(running_service: Run) -> None:
    asking = None
    async with running_service(tally.service()) as running:
        pass
    asking = asyncio.create_task(ask.ask(running.client, GetTally(who="a"), Tally, timeout=10))
    await asyncio.sleep(0.3)
    async with running_service(tally.service()):
        assert await asking == Tally(rows=0, total=0)


async def test_nobody_answers(running_service: Run) -> None:
    async with running_service(tally.service()) as running:
        pass
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        await ask.ask(running.client, GetTally(who="a"), Tally, timeout=0.5)
    assert time.monotonic() - started < 1.5


async def test_the_database_is_away(running_service: Run, servers: LocalServers) -> None:
    async with running_service(tally.service()) as running:
        servers.kill("postgres")
        with pytest.raises(ask.AskFailed, match="away"):
            await ask.ask(running.client, GetTally(who="a"), Tally)
        await servers.restart("postgres")
        assert await ask.ask(running.client, GetTally(who="a"), Tally) == Tally(rows=0, total=0)


async def test_telemetry_is_heard_and_a_bad_hearer_harms_nobody(running_service: Run) -> None:
    heard: list[bytes] = []
    all_heard = asyncio.Event()

    def hear(subject: str, body: bytes) -> None:
        assert subject == Ping.pattern(who="a")
        heard.append(body)
        if len(heard) == 3:
            all_heard.set()
        if body == b"bad":
            raise ValueError(body)

    async with running_service(tally.service(hears={Ping: hear})) as running:
        for body in (b"bad", b"worse", b"good"):
            await running.client.publish(Ping.pattern(who="a"), body)
        async with asyncio.timeout(5):
            await all_heard.wait()
        assert heard == [b"bad", b"worse", b"good"]
