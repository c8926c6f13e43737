"""Log lines carry the ids of what they are about, as text and as JSON; spans do, too."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import copy_context
from datetime import UTC, datetime
from pathlib import Path

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


STRAY = r"""
import logging, os, subprocess, sys, threading
from api.logs import set_up_logging
set_up_logging("json")
set_up_logging("text")
print('{"url": "http://127.0.0.1"}', flush=True)
print("\x1b[33m(raylet)\x1b[0m for the terminal")
os.write(2, b"[2026-01-31 12:00:00,123 W 17 23] (raylet) no answer\n")
os.write(2, b"2026-01-31 12:00:00,123\tERROR worker.py:1 -- lost\n")
os.write(2, b"E0131 12:00:00.123456 17 chttp2_transport.cc:1111] GOAWAY\n")
subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('a child: \u00e9\\n')"])
subprocess.run([sys.executable, "-c", "print('a child says')"])
logging.getLogger("ropewalk.test").warning("ours")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
"""
LAST_WORDS = "subprocess.Popen(['sh', '-c', 'sleep 0.5; echo E0131 12:00:00.123456 17 a.cc:1] last words >&2'])"
TOLD = [
    ("ropewalk", "critical", "expected"),
    ("ropewalk.test", "warning", "ours"),
    ("stderr", "error", "GOAWAY"),
    ("stderr", "error", "lost"),
    ("stderr", "info", "\u00e9"),
    ("stderr", "warning", "answer"),
    ("stdout", "info", "says"),
    ("stdout", "info", "terminal"),
]


def told_by(program: str) -> tuple[str, list[dict[str, str]]]:
    """Its standard output, and its log lines."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    return done.stdout.decode(), [json.loads(line) for line in done.stderr.decode().splitlines()]


@pytest.mark.parametrize(
    ("end", "last"),
    [
        ("raise SystemExit('the end')", ("stderr", "info", "end")),
        ("raise ValueError('nobody knows')", ("ropewalk", "critical", "expected")),
        (f"{LAST_WORDS}; os._exit(1)", ("stderr", "error", "words")),
        (f"{LAST_WORDS}; os.kill(os.getpid(), 9)", ("stderr", "error", "words")),
    ],
)
def test_whatever_is_written_is_told_in_json_lines(end: str, last: tuple[str, str, str]) -> None:
    """However the process ends: Ray ends it where its daemon has died."""
    stdout, lines = told_by(f"{STRAY}\n{end}\n")
    assert stdout == '{"url": "http://127.0.0.1"}\n', "what programs read comes as it was"
    found = sorted((line["logger"], line["level"], line["message"].split()[-1]) for line in lines)
    assert found == sorted([*TOLD, last])
    assert [line["exception"].splitlines()[-1] for line in lines if line["logger"] == "ropewalk"][-1].partition(":")[
        0
    ] in ("ZeroDivisionError", "ValueError")


TELLER_KILLED = """
import psutil
from api.logs import set_up_logging
set_up_logging("json")
psutil.Process().children()[0].kill()
"""


def test_who_tells_the_lines_is_started_again() -> None:
    """As the out-of-memory killer ends it: nobody's write fails, nothing that was not read is lost."""
    _, lines = told_by(f"{TELLER_KILLED}\n{STRAY}")
    assert sorted((line["logger"], line["level"], line["message"].split()[-1]) for line in lines) == TOLD


def test_a_stop_that_is_told_to_every_process_loses_nothing() -> None:
    """As a service manager tells it to all processes of a unit."""
    stop = "import psutil, signal; psutil.Process().children()[0].send_signal(signal.SIGTERM)"
    _, lines = told_by(f"{STRAY}\n{stop}\nos.write(2, b'afterwards')\nos.kill(os.getpid(), 9)\n")
    assert lines[-1]["message"] == "afterwards"


@pytest.mark.parametrize("failing", ["raise OSError('no memory')", "return real([sys.executable, '-c', ''])"])
def test_where_no_process_can_tell_this_one_does(failing: str) -> None:
    """After it was killed: no memory for another one, or one that ends at once."""
    program = f"""
import psutil, subprocess, sys, time
import api.stray_lines
api.stray_lines._AGAIN_SECONDS = 0.01
real = subprocess.Popen
def start(*args, **kwargs):
    {failing}
import api.logs
api.logs.set_up_logging("json")
subprocess.Popen = start
psutil.Process().children()[0].kill()
for number in range(3000):
    print("a line that is long enough to fill a pipe before three thousand of it are written", number)
"""
    _, lines = told_by(program)
    assert [line["message"].split()[-1] for line in lines] == [str(number) for number in range(3000)]


def test_a_reader_that_comes_late_gets_everything() -> None:
    """The process has waited for it as it ended, and has given up."""
    script = "sleep 4; echo last words >&2"
    program = f"""
import subprocess, sys
from api.logs import set_up_logging
set_up_logging("json")
subprocess.Popen(["sh", "-c", "{script}"])
for number in range(1500):
    print("a line that is long enough to fill a pipe before three thousand of it are written", number)
"""
    started = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert started.wait(timeout=30) == 0  # nobody has read a line
    _, told = started.communicate()
    assert [json.loads(line)["message"].split()[-1] for line in told.splitlines()] == [*map(str, range(1500)), "words"]


def test_a_line_of_standard_output_that_no_parser_bears_is_a_line() -> None:
    _, lines = told_by("""
from api.logs import set_up_logging
set_up_logging("json")
print('{"a":' * 30000)
print("beside")
""")
    assert [line["message"][:6] for line in lines] == ['{"a":{', "beside"]


def test_settings_that_are_wrong_are_told_in_a_line(tmp_path: Path) -> None:
    environment = os.environ | {
        "ROPEWALK_LOG_FORMAT": "json",
        "ROPEWALK_HOME": str(tmp_path),
        "ROPEWALK_ARTIFACTS": "x",
    }
    done = subprocess.run([sys.executable, "-m", "api.cli", "serve"], env=environment, capture_output=True, check=False)
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (done.returncode, done.stdout, line["level"]) == (2, b"", "error")
    assert "ROPEWALK_ARTIFACTS must be" in line["message"]


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
