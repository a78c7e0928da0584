"""Which larger story a request belongs to, and telling it to a collector, where one is named.

    traceparent (W3C Trace Context) -> TraceParent -> the log line of the request, with our trace ID
    [tracing] endpoint named        -> Tracer -> spans -> OTLP over HTTP, in the background

A header is taken for what it must look like or not at all, so nothing that a caller writes gets
into a log or a span as it came. Without an endpoint nothing of OpenTelemetry is imported. A span of
the request has one below it for each stage of the inspection, laid end to end: how long each took
is measured, when it began is not.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from inspection.errors import MissingExtra

if TYPE_CHECKING:
    from serving.settings import TracingSettings

_TRACEPARENT: Final = re.compile(
    rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_REQUEST_ID: Final = re.compile(rb"[0-9A-Za-z._-]{1,64}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
WAIT_MS: Final = 2000
"""How long a stopping server waits for the collector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceParent:
    """The span that a caller is in: W3C Trace Context, section 3.2.

    Attributes:
        trace_id: 32 lower-case hexadecimal digits, not all zero.
        span_id: 16 of them.
        sampled: whether the caller keeps its part of the story.
    """

    trace_id: str
    span_id: str
    sampled: bool


def parent_of(headers: Iterable[tuple[bytes, bytes]]) -> TraceParent | None:
    """The caller's span; None when no header says one, or not exactly as it must be said."""
    found = [value for name, value in headers if name == b"traceparent"]
    match = _TRACEPARENT.fullmatch(found[0]) if len(found) == 1 else None
    if match is None:
        return None
    said, trace_id, span_id, flags, more = match.groups()
    # Version 00 has four fields; a later one may have more, and ff is none.
    if said == b"ff" or (said == b"00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceParent(
        trace_id=trace_id.decode(), span_id=span_id.decode(), sampled=bool(int(flags, 16) & 1)
    )


def names_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """What a request is called elsewhere, for its line in the log."""
    headers = list(headers)
    names = {}
    if (parent := parent_of(headers)) is not None:
        names["otel_trace_id"] = parent.trace_id
    called = [value for name, value in headers if name == b"x-request-id"]
    if len(called) == 1 and _REQUEST_ID.fullmatch(called[0]):
        names["request_id"] = called[0].decode()
    return names


class Tracer:
    """Tells a collector of requests. Nobody waits for it; what it cannot take is dropped.

    Args:
        wanted: with an endpoint.

    Raises:
        MissingExtra: OpenTelemetry is not installed.
    """

    def __init__(self, wanted: TracingSettings) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        except ImportError as error:
            raise MissingExtra(
                "tracing is set, but OpenTelemetry is not installed",
                remedy="Run `pip install 'inspection[otel]'`, or leave out [tracing].",
            ) from error
        self._trace = trace
        about = {
            "service.name": os.environ.get("OTEL_SERVICE_NAME", "inspection"),
            "service.version": version("inspection"),
        }
        self._provider = TracerProvider(
            resource=Resource.create(about),
            sampler=ParentBased(TraceIdRatioBased(wanted.ratio)),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=wanted.endpoint, timeout=WAIT_MS / 1000)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("inspection", version("inspection"))

    def told(
        self,
        *,
        method: str,
        route: str,
        status: int,
        seconds: float,
        parent: TraceParent | None,
        noted: Mapping[str, Any],
    ) -> None:
        """A request has its answer.

        Args:
            method: of HTTP.
            route: a template, never a path that somebody sent.
            status: of the answer.
            seconds: from its headers to the end of its answer.
            parent: the caller's span.
            noted: what is known of an inspection: trace_id, product, disposition, timings_ms.
        """
        method = method if method in _METHODS else "_OTHER"
        ended = time.time_ns()
        began = ended - int(seconds * 1e9)
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }
        for name in ("trace_id", "station", "product", "disposition"):
            if name in noted:
                attributes[f"inspection.{name}"] = str(noted[name])
        if status >= 500:
            attributes["error.type"] = str(status)
        span = self._tracer.start_span(
            f"{method} {route}",
            context=self._context(parent),
            kind=self._trace.SpanKind.SERVER,
            start_time=began,
            attributes=attributes,
        )
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        inside = self._trace.set_span_in_context(span)
        at = began
        stages = {} if noted.get("replayed") else noted.get("timings_ms", {})
        for stage, spent_ms in stages.items():
            until = min(ended, at + int(spent_ms * 1e6))
            part = self._tracer.start_span(f"inspection.{stage}", context=inside, start_time=at)
            part.end(end_time=until)
            at = until
        span.end(end_time=ended)

    def close(self) -> None:
        """Send what is left, if the collector takes it in time."""
        self._provider.force_flush(WAIT_MS)
        self._provider.shutdown()

    def _context(self, parent: TraceParent | None) -> Any:
        if parent is None:
            return None
        context = self._trace.SpanContext(
            trace_id=int(parent.trace_id, 16),
            span_id=int(parent.span_id, 16),
            is_remote=True,
            trace_flags=self._trace.TraceFlags(int(parent.sampled)),
        )
        return self._trace.set_span_in_context(self._trace.NonRecordingSpan(context))
