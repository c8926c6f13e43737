"""The process that an engine lives in: `python -m workers.vllm_backend.child CONNECTION`.

Started by workers/vllm_backend/process.py.

It leads a process group of its own, which vLLM's tensor-parallel ranks join, and it ends with its parent, however that
one ends: the kernel closes the pipe on standard input when the parent is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from evaluation.models.loading import heard_by, seldom
from workers.errors import ScorerUnavailable
from workers.vllm_backend.messages import EngineBroken, EngineLoading, EngineRefused, OpenEngine, Reply, Request, Work

if TYPE_CHECKING:
    from workers.vllm_backend.engine import Engine


def main() -> None:
    """Answer requests until the connection closes or the engine breaks."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    connection: Connection[Reply, Request] = Connection(int(sys.argv[1]))
    engine: Engine | None = None
    while True:
        try:
            request = connection.recv()
        except EOFError:
            break
        if isinstance(request, OpenEngine):
            engine = _open(request, connection)
        else:
            assert engine is not None, "an engine is opened before it works"
            _work(engine, request, connection)
    if engine is not None:
        engine.close()
    os._exit(0)  # taking the interpreter down by the book costs seconds


def _end_with_parent() -> None:
    """Kill the whole group at the end of standard input, also in the middle of a forward pass: it lets threads run."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


def _open(request: OpenEngine, connection: Connection[Reply, Request]) -> Engine:
    try:
        from workers.vllm_backend.engine import Engine  # tens of seconds; the watch on the parent has begun

        with heard_by(seldom(lambda share: connection.send(EngineLoading(share=share)))):
            engine = Engine(request)
    except Exception as error:  # vLLM raises whatever its many parts raise
        connection.send(EngineRefused(reason=_one_line(error)))
        raise
    connection.send(engine.opened)
    return engine


def _work(engine: Engine, request: Work, connection: Connection[Reply, Request]) -> None:
    try:
        done = engine.do(request)
    except Exception as error:
        connection.send(EngineBroken(reason=_one_line(error)))
        raise
    connection.send(done)


def _one_line(error: Exception) -> str:
    line = " ".join(str(error).split())
    return line if isinstance(error, ScorerUnavailable) else f"{type(error).__name__}: {line}"


if __name__ == "__main__":
    main()
