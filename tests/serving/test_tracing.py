"""A caller's trace goes on in the log and, where a collector is named, in its spans; no forgery."""

from __future__ import annotations

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.envelope import JsonLines
from serving.settings import Settings, TracingSettings
from serving.tracing import TraceParent, names_of, parent_of
from tests.live_server import Live, running, serial, settings_in, until
from tests.spot_model import part_png

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = part_png("good")
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def said(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), *((b"traceparent", value) for value in values)]


def test_a_traceparent_is_read_as_the_standard_says() -> None:
    expected = TraceParent(trace_id=TRACE, span_id=SPAN, sampled=True)
    assert parent_of(said(PARENT.encode())) == expected
    assert parent_of(said(PARENT.encode()[:-1] + b"0")) == TraceParent(
        trace_id=TRACE, span_id=SPAN, sampled=False
    )
    later = f"cc-{TRACE}-{SPAN}-01-what-the-future-adds".encode()
    assert parent_of(said(later)) == expected


@pytest.mark.parametrize(
    "value",
    [
        PARENT.upper(),
        PARENT + "-more",
        PARENT + "\n",
        "ff" + PARENT[2:],
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}",
        "",
    ],
)
def test_what_is_not_exactly_one_is_none(value: str) -> None:
    assert parent_of(said(value.encode())) is None


def test_two_of_them_are_none() -> None:
    assert parent_of(said(PARENT.encode(), PARENT.encode())) is None


@given(st.binary(max_size=80))
def test_nothing_that_a_caller_writes_gets_into_the_log_as_it_came(value: bytes) -> None:
    names = names_of([(b"traceparent", value), (b"x-request-id", value)])
    for name in names.values():
        assert name.isascii()
        assert all(character.isalnum() or character in "._-" for character in name)


@pytest.fixture
def lines() -> Iterator[StringIO]:
    """What the server logs meanwhile, as it goes to stderr."""
    logger, text = logging.getLogger("serving"), StringIO()
    handler, level = logging.StreamHandler(text), logger.level
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield text
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_the_log_names_both_traces_and_holds_no_image_and_no_forgery(
    live: Live, lines: StringIO
) -> None:
    named = {"traceparent": PARENT, "X-Request-ID": "line-7.000123"}
    posted = live.post(GOOD, capture_id="traced", serial=serial(1), headers=named)
    assert posted.status_code == 201
    forged: Any = {b"X-Request-ID": b'x", "level": "fatal', b"traceparent": b"\xe2\x80\xa8"}
    refused = live.post(b"no image", capture_id="forged", headers=forged)
    assert refused.status_code == 422
    until(lambda: lines.getvalue().count('"event": "request"') >= 2)  # told after the answer
    logged = [json.loads(line) for line in lines.getvalue().splitlines()]
    first, second = [line for line in logged if line["event"] == "request"]
    assert first["trace_id"] == posted.json()["trace_id"]
    assert (first["otel_trace_id"], first["request_id"]) == (TRACE, "line-7.000123")
    assert "otel_trace_id" not in second
    assert "request_id" not in second
    (told,) = [line for line in logged if line["event"] == "refused"]
    assert told["instance"] == refused.json()["instance"]
    assert "IHDR" not in lines.getvalue()
    assert "fatal" not in lines.getvalue()


# --- a collector -----------------------------------------------------------------------------


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP and decodes it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiving)
        self.spans: list[Any] = []
        self.services: set[str] = set()


class Receiving(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        body = self.rfile.read(int(self.headers["Content-Length"]))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.server.services.add(about["service.name"])
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    pytest.importorskip("opentelemetry.sdk", reason="the extra 'otel' is not installed")
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def traced(site: Path, endpoint: str) -> Settings:
    tracing = TracingSettings(endpoint=endpoint)
    return settings_in(site).model_copy(update={"tracing": tracing})


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_a_collector_hears_of_a_part_by_stage_in_its_callers_trace(
    site: Path, collector: Collector
) -> None:
    address = f"http://127.0.0.1:{collector.server_port}/v1/traces"
    with running(traced(site, address)) as live:
        answer = live.post(GOOD, serial=serial(1), headers={"traceparent": PARENT})
        posted = answer.json()
        unsampled = {"traceparent": PARENT[:-1] + "0"}
        live.post(GOOD, capture_id="quiet", headers=unsampled)
        live.http.get("/v1/no-such-path")
    by_name = {span.name: span for span in collector.spans}
    assert collector.services == {"inspection"}
    span = by_name["POST /v1/inspections"]
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    told = attributes(span)
    assert told["http.response.status_code"] == 201
    assert told["http.request.method"] == "POST"
    assert told["inspection.trace_id"] == posted["trace_id"]
    assert told["inspection.disposition"] == "pass"
    assert "serial" not in str(told)
    for stage in posted["timings_ms"]:
        part = by_name[f"inspection.{stage}"]
        assert part.parent_span_id == span.span_id
        assert span.start_time_unix_nano <= part.start_time_unix_nano
        assert part.end_time_unix_nano <= span.end_time_unix_nano
    assert [each.name for each in collector.spans].count("POST /v1/inspections") == 1, "sampled"
    assert not any("no-such-path" in name for name in by_name)


def test_a_collector_that_is_away_keeps_nobody_waiting(
    site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra 'otel' is not installed")
    with running(traced(site, "http://127.0.0.1:9/v1/traces")) as live:
        assert live.post(GOOD).status_code == 201
        assert live.http.get("/readyz").status_code == 200
    assert "Traceback" not in caplog.text


def test_an_endpoint_that_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="is an address"):
        TracingSettings(endpoint="collector:4318")
