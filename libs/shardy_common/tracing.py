"""W3C trace context. Every event carries a `traceparent`; spans leave by OTLP when an endpoint is configured."""

from __future__ import annotations

import os
import re
import secrets

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\Z")


def child_traceparent(parent: str) -> str:
    """A traceparent in the caller's trace with a span id of our own; a new trace when the caller sent none."""
    match = _TRACEPARENT.match(parent)
    if match is None or match[1] == "0" * 32 or match[2] == "0" * 16:
        return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    return f"00-{match[1]}-{secrets.token_hex(8)}-{match[3]}"


def setup(service: str) -> trace.Tracer:
    """A tracer that exports over OTLP/HTTP if OTEL_EXPORTER_OTLP_ENDPOINT is set, and costs next to nothing if not."""
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(resource=Resource.create({"service.name": f"shardy-{service}"}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    return trace.get_tracer("shardy")
