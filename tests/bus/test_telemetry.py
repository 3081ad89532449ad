"""Traces go through outbox and stream, and cost nothing where nobody collects them; and Valkey may go away."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.exceptions import RedisError

from libs import cache, telemetry
from libs.local.servers import LocalServers
from tests.bus import tally
from tests.bus.tally import Add, Added
from tests.conftest import Running
from wire.message import encode

ROOT = Path(__file__).parent.parent.parent
Run = Callable[..., AbstractAsyncContextManager[Running]]

CALLER = f"00-{7:032x}-{9:016x}-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What a collector would get, were there one."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(telemetry, "setup", lambda service: telemetry.Tracing(service, SimpleSpanProcessor(exporter)))
    monkeypatch.setattr(telemetry, "SAMPLED_SHARE", 0.0)
    return exporter


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


async def chain(running: Running, headers: dict[str, str] | None) -> dict[str, str]:
    """One command, and the headers of the event that it caused."""
    order = Add(who="a", n=1, id="m1", at=1)
    await running.client.jetstream().publish(order.subject(), encode(order), headers=headers)
    await running.heard(Added)
    [event] = [message for message in running.arrived if message.subject == Added.pattern(who="a")]
    return event.headers or {}


async def test_the_context_goes_through_the_outbox(running_service: Run, spans: InMemorySpanExporter) -> None:
    async with running_service(tally.service()) as running:
        caused = await chain(running, {"traceparent": CALLER, "correlation_id": "booking-1"})
    [span] = named(spans, "Add")
    assert span.context is not None
    assert span.parent is not None
    assert (span.context.trace_id, span.parent.span_id) == (7, 9)
    assert caused["traceparent"] == f"00-{7:032x}-{span.context.span_id:016x}-01"
    assert (caused["correlation_id"], caused["causation_id"]) == ("booking-1", "m1")


async def test_what_the_caller_does_not_sample_is_not_sampled(
    running_service: Run, spans: InMemorySpanExporter
) -> None:
    unsampled = CALLER.removesuffix("1") + "0"
    async with running_service(tally.service(traced=[Add])) as running:
        caused = await chain(running, {"traceparent": unsampled})
    assert (named(spans, "Add"), caused["traceparent"]) == ([], unsampled)


@pytest.mark.parametrize("always", [True, False])
async def test_named_kinds_begin_a_trace(running_service: Run, spans: InMemorySpanExporter, always: bool) -> None:
    async with running_service(tally.service(traced=[Add] if always else [])) as running:
        caused = await chain(running, None)
    assert len(named(spans, "Add")) == always
    assert caused["traceparent"].endswith("-01" if always else "-00")


async def test_a_failure_is_in_the_span(running_service: Run, spans: InMemorySpanExporter) -> None:
    async with running_service(tally.service(traced=[Add])) as running:
        await running.publish(Add(who="a", n=1, fails="on purpose"))
        await running.heard(tally.Declined, timeout=20)
    assert {span.status.is_ok for span in named(spans, "Add")} == {False}


@given(st.text(max_size=60))
def test_no_header_breaks_the_sampler(header: str) -> None:
    tracing = telemetry.Tracing("x", SimpleSpanProcessor(InMemorySpanExporter()))
    assert tracing.begin("n", "s", "i", {"traceparent": header}, always=False, chance=0.5) is None


def test_without_a_collector_nothing_is_imported() -> None:
    code = (
        "import sys, json, libs.telemetry as t; s = t.Spans(t.setup('x', {}), ()); "
        "print(json.dumps([s.headers(int, 's', 'i', {}), [m for m in sys.modules if 'opentelemetry' in m]]))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == [{}, []]


async def test_valkey_is_restarted_under_its_clients(servers: LocalServers) -> None:
    client = cache.connect(servers.addresses.valkey)
    await client.set("bus:test", b"1", px=60_000)
    await servers.restart("valkey")
    await client.set("bus:test", b"2", px=60_000)
    assert await client.get("bus:test") == b"2"
    servers.kill("valkey")
    async with asyncio.timeout(3):
        with pytest.raises((RedisError, OSError)):
            await client.get("bus:test")
    await servers.restart("valkey")
    await client.set("bus:test", b"3", px=60_000)
    await client.aclose()
