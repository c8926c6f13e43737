"""The spans and the ids of a whole search."""

import gzip
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.door import Door
from service.runtime import tracing
from service.runtime.log_context import bound, current
from service.specs.search import SearchSpec
from storage.postgres.database import Database
from tests.helpers.pools import LocalPool
from tests.helpers.searches import SPEC, controller
from tests.helpers.waiting import wait_until
from workers.base import ScoringTask


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.start(SimpleSpanProcessor(exporter), version="0")
    yield exporter
    tracing.stop()


def test_a_search_leaves_a_span_per_stage_generation_and_document_score(
    database: Database, tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    told: list[dict[str, object]] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append({"message": record.getMessage(), **current()})

    def refuse(task: ScoringTask) -> bool:
        return task.key.startswith("9:")

    listener = Listener()
    logging.getLogger("ropewalk.controller").addHandler(listener)
    door = Door(database)
    search_id = door.submissions.submit_search(SearchSpec.model_validate(SPEC)).job.id
    with controller(database, tmp_path, lambda settings, workers: LocalPool(settings, refuse=refuse)):
        wait_until(lambda: door.job("search", search_id).state.is_final)
    logging.getLogger("ropewalk.controller").removeHandler(listener)

    found = spans.get_finished_spans()
    assert {"job search", "preparing", "searching", "generation", "validating"} <= {span.name for span in found}
    assert {(span.attributes or {})["search_id"] for span in found} == {search_id}
    scores = [span for span in found if span.name == "document score"]
    stored = sum(len(door.scores(search_id, split=split)) for split in ("search", "validation"))
    assert len(scores) == stored > 0
    assert {"trial", "document", "worker"} <= set(scores[0].attributes or {})
    (failed,) = (line for line in told if "could not be scored" in str(line["message"]))
    assert (failed["search_id"], failed["trial"]) == (search_id, 9)


def test_spans_reach_a_collector() -> None:
    """A collector as OTLP describes it: POST /v1/traces, protocol buffers."""
    received: list[ExportTraceServiceRequest] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tracing.export_to(f"http://127.0.0.1:{server.server_port}", version="7")
        with bound(search_id="srch_1"), tracing.span("job search", epoch=3):
            pass
        tracing.stop()  # sends what has ended
        server.shutdown()
    (resource,) = received[0].resource_spans
    named = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert (named["service.name"], named["service.version"]) == ("ropewalk", "7")
    ((span,),) = (list(scope.spans) for scope in resource.scope_spans)
    assert span.name == "job search"
    assert {one.key for one in span.attributes} == {"search_id", "epoch"}
