"""Log lines carry the ids of what they are about, as text and as JSON; spans do, too."""

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import copy_context
from datetime import UTC, datetime

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


def test_text_says_how_far_its_time_is_from_utc() -> None:
    logger, written = lines_of("text", "ropewalk.test.time")
    logger.info("now")
    told = datetime.fromisoformat(" ".join(written.getvalue().split()[:2]))
    assert told.tzinfo is not None
    assert abs((datetime.now(UTC) - told).total_seconds()) < 60


STRAY = """
import logging, os, subprocess, sys
from api.logs import set_up_logging
set_up_logging("json")
os.write(2, b"[2026-01-31 12:00:00,123 W 17 23] (raylet) no answer\\n")
os.write(2, b"2026-01-31 12:00:00,123\\tERROR worker.py:1 -- lost\\n")
subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('a child: \\u00e9\\\\n')"])
logging.getLogger("ropewalk.test").warning("ours")
raise SystemExit("the end")
"""


def test_what_others_write_to_standard_error_is_told_in_json_lines() -> None:
    done = subprocess.run([sys.executable, "-c", STRAY], capture_output=True, check=False)
    assert done.stdout == b""
    lines = [json.loads(line) for line in done.stderr.decode().splitlines()]
    assert sorted((line["logger"], line["level"], line["message"].split()[-1]) for line in lines) == [
        ("ropewalk.test", "warning", "ours"),
        ("stderr", "error", "lost"),
        ("stderr", "info", "end"),
        ("stderr", "info", "\u00e9"),
        ("stderr", "warning", "answer"),
    ]


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
