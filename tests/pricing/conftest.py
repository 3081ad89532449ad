"""Pricing on the real bus: what its tests ask and publish."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from libs.bus import ask
from libs.ids import new_id
from services.pricing.__main__ import service
from services.pricing.settings import Settings
from tests.conftest import Running
from wire.booking import BookingPlaced, QuoteDeclined
from wire.quote import GetQuote, Quote, QuoteGiven, Refused
from wire.values import ClusterRequest, NodeSpec, PortBlock, Reason, usd

REQUEST = ClusterRequest(nodes=2, model="RTX 3090", duration_seconds=3600)
NODE = "U" + "B" * 55
SPEC = NodeSpec(
    name="rig",
    manufacturer="NVIDIA",
    model="RTX 3090",
    gpus=1,
    vram_mb=24576,
    cpu_model="x",
    cpu_cores=8,
    cpu_mhz=3000,
    memory_mb=32768,
    ray_ports=PortBlock(first=20_000, count=100),
)
Pricing = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def pricing(running_service: Any, settings: Any) -> Pricing:
    @asynccontextmanager
    async def run(**more: Any) -> AsyncIterator[Running]:
        policy = more.pop("policy", None)
        own = await settings("pricing", Settings, **{"view_ms": 0, **more})
        async with running_service(service(own, policy), own) as running:
            yield running

    return run


@pytest_asyncio.fixture(loop_scope="session")
async def valkey(servers: Any) -> AsyncIterator[Redis]:
    client = Redis.from_url(servers.addresses.valkey)
    yield client
    await client.aclose()


async def answered(running: Running, query: GetQuote) -> QuoteGiven | Refused:
    either: Any = QuoteGiven | Refused
    answer: QuoteGiven | Refused = await ask.ask(running.client, query, either)
    return answer


async def quoted(running: Running, partner: str = "acme", request: ClusterRequest = REQUEST) -> Quote:
    answer = await answered(running, GetQuote(partner=partner, request=request))
    assert isinstance(answer, QuoteGiven)
    return answer.quote


async def place(running: Running, quote_id: str | None, at: int = 0, **fields: Any) -> str:
    booking_id = new_id("bkg")
    order = {"partner": "acme", "request": REQUEST, "max_total": usd(10**9), **fields}
    await running.publish(BookingPlaced(booking_id=booking_id, quote_id=quote_id, at=at, **order))
    return booking_id


async def told(running: Running, line: str, words: str, request: ClusterRequest = REQUEST) -> Quote:
    """The first quote in whose line these words stand; the events before it take their time."""
    async with asyncio.timeout(10):
        while True:
            given = await quoted(running, request=request)
            if words in next(found.why for found in given.lines if found.name == line):
                return given
            await asyncio.sleep(0.02)


async def declined(running: Running, booking_id: str) -> tuple[Reason, str]:
    refusal = (await running.heard(QuoteDeclined, booking_id=booking_id)).refusal
    return refusal.reason, refusal.detail
