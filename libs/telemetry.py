"""Traces: a span for each handled message that is sampled, its context carried on in the headers of what it causes.

Whether to sample is decided before a span is made, because most are not: as the cause was, else always for the kinds a
service names, else one in a hundred. Without OTEL_EXPORTER_OTLP_ENDPOINT nothing of OpenTelemetry is even imported.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Span

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACEPARENT = "traceparent"
SAMPLED_SHARE = 0.01

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])")


def setup(service: str, environ: Mapping[str, str] = os.environ) -> Tracing | None:
    """None where nobody collects traces."""
    if not environ.get(ENDPOINT):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return Tracing(service, BatchSpanProcessor(OTLPSpanExporter()))


class Tracing:
    """Makes spans and the headers that carry them."""

    def __init__(self, service: str, processor: Any) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        self._api = trace
        # Always on, because only what is sampled gets this far.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create({"service.name": service}))
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("libs.bus")

    def begin(
        self, name: str, subject: str, message_id: str, come: Mapping[str, str], always: bool, chance: float
    ) -> Span | None:
        """A span, if this message is sampled; `come` are its headers, `chance` lies in [0, 1)."""
        parent = _TRACEPARENT.fullmatch(come.get(TRACEPARENT, ""))
        if parent is None and not (always or chance < SAMPLED_SHARE):
            return None
        if parent is not None and parent[3] == "00":
            return None
        context = None
        if parent is not None:
            caller = self._api.SpanContext(
                int(parent[1], 16), int(parent[2], 16), is_remote=True, trace_flags=self._api.TraceFlags(1)
            )
            context = self._api.set_span_in_context(self._api.NonRecordingSpan(caller))
        return self._tracer.start_span(
            name,
            context=context,
            kind=self._api.SpanKind.CONSUMER,
            attributes={
                "messaging.system": "nats",
                "messaging.destination.name": subject,
                "messaging.message.id": message_id,
                "messaging.message.conversation_id": come.get("correlation_id", ""),
            },
        )

    def end(self, span: Span | None, error: BaseException | None = None) -> None:
        if span is None:
            return
        if error is not None:
            span.record_exception(error)
            span.set_status(self._api.StatusCode.ERROR)
        span.end()

    def close(self) -> None:
        """Sends what is not sent yet, for a few seconds at most."""
        self._provider.shutdown()


def carried(span: Span | None, come: Mapping[str, str]) -> str:
    """The traceparent of what a message causes: its span's, else its own, else one that says: not sampled."""
    if span is not None:
        context = span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
    if TRACEPARENT in come:
        return come[TRACEPARENT]
    return f"00-{random.getrandbits(128) | 1:032x}-{random.getrandbits(64) | 1:016x}-00"


class Spans:
    """The spans of one transaction's messages; without tracing it does nothing and costs nothing."""

    def __init__(self, tracing: Tracing | None, always: Collection[type]) -> None:
        self._tracing, self._always = tracing, always
        self._open: list[Span] = []

    def headers(self, kind: type, subject: str, message_id: str, come: Mapping[str, str]) -> dict[str, str]:
        """Begin a message's span; returns the header of what it causes."""
        if self._tracing is None:
            return {TRACEPARENT: come[TRACEPARENT]} if TRACEPARENT in come else {}
        span = self._tracing.begin(kind.__name__, subject, message_id, come, kind in self._always, random.random())
        if span is not None:
            self._open.append(span)
        return {TRACEPARENT: carried(span, come)}

    def __enter__(self) -> Spans:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if self._tracing is not None:
            for span in self._open:
                self._tracing.end(span, error)
