"""W3C trace context: every event carries a `traceparent`; spans leave by OTLP when an endpoint is configured.

A job's trace starts with the requester's own `traceparent`, or with its submission. Spans are made by services that
follow the log live, never by a replay, so rebuilding a projection repeats none.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping

from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\Z")
Attributes = Mapping[str, str | int | float]


def new_traceparent() -> str:
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def child_traceparent(parent: str) -> str:
    """A traceparent in the caller's trace with a span id of our own; a new trace when the caller sent none."""
    match = _TRACEPARENT.match(parent)
    if match is None or match[1] == "0" * 32 or match[2] == "0" * 16:
        return new_traceparent()
    return f"00-{match[1]}-{secrets.token_hex(8)}-{match[3]}"


class Tracer:
    """Spans of one service. Without OTEL_EXPORTER_OTLP_ENDPOINT nothing is made, and nothing is paid."""

    def __init__(self, service: str) -> None:
        self.enabled = bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))
        if not self.enabled:
            return
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._provider = TracerProvider(resource=Resource.create({"service.name": f"shardy-{service}"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("shardy")

    def record(self, name: str, parent: str, start_ms: float, end_ms: float, attributes: Attributes) -> None:
        """A finished span below the span that a traceparent names. Times are Unix milliseconds."""
        match = _TRACEPARENT.match(parent)
        if not self.enabled or match is None:
            return
        context = SpanContext(int(match[1], 16), int(match[2], 16), True, TraceFlags(int(match[3], 16)))
        span = self._tracer.start_span(
            name,
            context=set_span_in_context(NonRecordingSpan(context)),
            start_time=int(start_ms * 1e6),
            attributes=dict(attributes),
        )
        span.end(int(max(end_ms, start_ms) * 1e6))

    def close(self) -> None:
        """Send what is left."""
        if self.enabled:
            self._provider.shutdown()
