"""OpenTelemetry spans of requests, of jobs and their stages, and of document scores, where the operator asks for them.

Without the extra `otel`, or before a provider is set, spans cost next to nothing and go nowhere. The ids that log lines
carry (:mod:`service.runtime.log_context`) are attributes of every span.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.runtime.log_context import LogValue, current

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

_NANOSECONDS = 1_000_000_000

_provider: TracerProvider | None = None


def export_to(endpoint: str, *, version: str) -> None:
    """Send spans to an OTLP collector over HTTP (`endpoint` as http://host:4318), in batches, from now on.

    Raises:
        ImportError: the extra `otel` is not installed.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    start(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")), version=version)


def start(processor: SpanProcessor, *, version: str) -> None:
    """Hand every span that ends from now on to `processor`. Our own provider: Ray and others have theirs."""
    global _provider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    _provider = TracerProvider(resource=Resource.create({"service.name": "ropewalk", "service.version": version}))
    _provider.add_span_processor(processor)


def stop() -> None:
    """Send what has ended, and make no more spans."""
    global _provider
    if _provider is not None:
        _provider.shutdown()
    _provider = None


@contextmanager
def span(name: str, **attributes: LogValue) -> Iterator[None]:
    """The block as a span, below the one that it runs in; what the block raises is recorded with it."""
    if _provider is None:
        yield
        return
    tracer = _provider.get_tracer("ropewalk")
    with tracer.start_as_current_span(name, attributes={**current(), **attributes}):
        yield


def record_span(name: str, *, seconds: float, **attributes: LogValue) -> None:
    """Something that took `seconds` elsewhere and has ended now, such as a document score on a worker."""
    if _provider is None:
        return
    ended = time.time_ns()
    tracer = _provider.get_tracer("ropewalk")
    begun = tracer.start_span(
        name, start_time=ended - int(seconds * _NANOSECONDS), attributes={**current(), **attributes}
    )
    begun.end(ended)
