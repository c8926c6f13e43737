"""Log lines carry the ids of what they are about, as text and as JSON; spans do, too."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from contextvars import copy_context

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.logs import LogFormat, make_handler
from api.settings import load_settings
from service.runtime import tracing
from service.runtime.log_context import bound
from tests.helpers.http_server import RunningServer, claimed_search
from tests.helpers.waiting import wait_until


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.start(SimpleSpanProcessor(exporter), version="0")
    yield exporter
    tracing.stop()


def lines_of(log_format: LogFormat, name: str = "ropewalk.test") -> tuple[logging.Logger, io.StringIO]:
    written = io.StringIO()
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    logger.addHandler(make_handler(log_format, written))
    return logger, written


def test_a_json_line_is_one_object_with_its_ids_and_traceback() -> None:
    logger, written = lines_of("json", "ropewalk.test.json")
    with bound(search_id="srch_1"):
        with bound(trial=7):
            logger.info("scored\n%d documents", 3)
        try:
            raise ValueError("broken")
        except ValueError:
            logger.exception("failed")
    first, second = (json.loads(line) for line in written.getvalue().splitlines())
    assert {key: first[key] for key in ("level", "logger", "message", "search_id", "trial")} == {
        "level": "info",
        "logger": "ropewalk.test.json",
        "message": "scored\n3 documents",
        "search_id": "srch_1",
        "trial": 7,
    }
    assert first["time"].endswith("+00:00")
    assert "trial" not in second
    assert "ValueError: broken" in second["exception"]


def test_text_has_the_ids_behind_the_message_in_threads_that_were_given_them() -> None:
    logger, written = lines_of("text", "ropewalk.test.text")
    with bound(search_id="srch_1"):
        threads = [
            threading.Thread(target=copy_context().run, args=(logger.info, "with")),
            threading.Thread(target=logger.info, args=("without",)),
        ]
    for thread in threads:
        thread.start()
        thread.join()
    with_ids, without = written.getvalue().splitlines()
    assert with_ids.endswith("INFO ropewalk.test.text: with [search_id=srch_1]")
    assert without.endswith(": without")


def test_a_request_is_told_under_its_id_in_logs_and_spans(server: RunningServer, spans: InMemorySpanExporter) -> None:
    logger, written = lines_of("json", "ropewalk.access")
    lease = claimed_search(server.jobs)
    path = f"/v1/searches/{lease.job_id}"
    with server.http as http:
        http.get(path, headers={"X-Request-ID": "look"})
        http.post(f"{path}:cancel", headers={"X-Request-ID": "cancel"})
    # The server tells, and ends its span, after the answer has left.
    wait_until(lambda: bool(written.getvalue()) and len(spans.get_finished_spans()) > 1)
    logger.handlers.clear()
    (line,) = map(json.loads, written.getvalue().splitlines())  # who only looks is not told
    assert line["request_id"] == "cancel"
    assert line["message"].startswith(f"POST {path}:cancel: 200 in ")
    found = {(span.attributes or {})["request_id"]: span for span in spans.get_finished_spans()}
    assert found["look"].name == f"GET {path}"


def test_without_a_collector_there_are_no_spans() -> None:
    with tracing.span("nothing"):
        tracing.record_span("nothing either", seconds=1.0)


def test_the_settings_of_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROPEWALK_LOG_FORMAT", "json")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    settings = load_settings()
    assert (settings.log_format, settings.otlp_endpoint) == ("json", "http://collector:4318")
