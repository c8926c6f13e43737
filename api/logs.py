"""How log lines look: text for people, or a JSON object a line, both with the ids of what they are about."""

import json
import logging
import sys
import threading
from datetime import datetime
from types import TracebackType
from typing import Literal, TextIO

from api.stray_lines import is_taken_over, log_object, take_over
from service.runtime.log_context import current

LogFormat = Literal["text", "json"]

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
QUIET = ("uvicorn.error", "alembic", "httpx")  # what they log below a warning, our own loggers report


class _WithIds(logging.Formatter):
    """Local time with its offset to UTC in front, the ids in brackets behind the message."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 (logging's name)
        return datetime.fromtimestamp(record.created).astimezone().isoformat(sep=" ", timespec="milliseconds")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        ids = " ".join(f"{name}={value}" for name, value in current().items())
        message = super().formatMessage(record)
        return f"{message} [{ids}]" if ids else message


class _AsJson(logging.Formatter):
    """`time` (UTC), `level`, `logger`, `message`, the ids, and `exception` with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {**log_object(record.created, record.levelno, record.name, record.getMessage()), **current()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def make_handler(log_format: LogFormat, stream: TextIO | None = None) -> logging.Handler:
    """Writes lines of this look to `stream`, by default to standard error."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_AsJson() if log_format == "json" else _WithIds(TEXT))
    return handler


def set_up_logging(log_format: LogFormat) -> None:
    """Write lines of INFO and above to standard error, once for a process. With `json` there is nothing else: what
    others write there and to standard output is told in lines, and so is an error that ends a thread or the process."""
    if is_taken_over():
        return
    stream = None
    if log_format == "json":
        stream = take_over()
        sys.excepthook = _tell_crash
        threading.excepthook = lambda told: _tell_crash(told.exc_type, told.exc_value, told.exc_traceback)
    logging.basicConfig(level=logging.INFO, handlers=[make_handler(log_format, stream)])
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _tell_crash(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is not None and not issubclass(kind, SystemExit):
        logging.getLogger("ropewalk").critical("%s was not expected", kind.__name__, exc_info=(kind, error, trace))
