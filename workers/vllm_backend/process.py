"""The parent's side of an engine's process: start it, ask it, and end it, whatever it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import IO

from evaluation.models.loading import tell_share
from ropewalk.serving.plugin import OFF_SWITCH
from workers.errors import ScorerUnavailable
from workers.vllm_backend.messages import (
    Done,
    EngineBroken,
    EngineLoading,
    EngineOpened,
    EngineRefused,
    OpenEngine,
    Reply,
    Request,
    Work,
)

_CHILD: tuple[str, ...] = (f"{__package__}.child",)
_LOAD_SECONDS = 1800.0
_END_SECONDS = 10.0  # for ranks to give back shared memory; then it is killed
_LOG_TAIL_BYTES = 4000
_ENVIRONMENT = {
    OFF_SWITCH: "off",  # a model with factors is scored with those of the candidate, at every length
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # see workers/vllm_backend/engine.py
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "TORCH_COMPILE_DISABLE": "1",  # small helpers of the V1 runner would be compiled for ten seconds at the first score
    "VLLM_HOST_IP": "127.0.0.1",  # ranks are on one machine; otherwise vLLM looks for a way out of it
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


class EngineLost(RuntimeError):
    """The engine's process is gone, or was killed because it hung; the message is the reason, in one line."""


class EngineProcess:
    """One child process with one engine in it; not thread-safe.

    It leads a process group of its own and ends with this process, also when this one is killed: see
    workers/vllm_backend/child.py. What it prints goes to an unnamed file, whose end is quoted when the engine is lost.

    Raises:
        ScorerUnavailable: the engine says why the model cannot be scored here, or ended while it loaded.
    """

    def __init__(self, request: OpenEngine) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by kill()
        self._connection, theirs = _pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", *_CHILD, str(theirs.fileno())],
            stdin=subprocess.PIPE,  # never written to: its end tells the child that this process is gone
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs.fileno(),),
            env=engine_environment(os.environ, threads=request.threads),
            start_new_session=True,
        )
        theirs.close()
        try:
            self.opened = self._open(request)
        except BaseException:
            self.end()
            raise

    @property
    def pid(self) -> int:
        """Of the child, which is also its process group."""
        return self._process.pid

    def do(self, work: Work, *, seconds: float) -> Done:
        """What the engine replies.

        Raises:
            EngineLost: no reply within `seconds`, or none will ever come. The process has ended.
        """
        try:
            reply = self._ask(work, seconds=seconds)
            if isinstance(reply, EngineBroken):
                raise EngineLost(reply.reason)
        except EngineLost:
            self.kill()
            raise
        assert not isinstance(reply, EngineLoading | EngineOpened | EngineRefused)
        return reply

    def end(self) -> None:
        """Let the engine clean up after itself, then kill what is left of it. May be called again."""
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill the whole process group at once. May be called again."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._connection.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._log.close()

    def _open(self, request: OpenEngine) -> EngineOpened:
        try:
            reply = self._ask(request, seconds=_LOAD_SECONDS)
            while isinstance(reply, EngineLoading):
                tell_share(reply.share)
                reply = self._reply(seconds=_LOAD_SECONDS)
        except EngineLost as error:
            raise ScorerUnavailable(f"vLLM must load {request.model}, but {error}") from error
        if isinstance(reply, EngineRefused):
            raise ScorerUnavailable(f"vLLM must be able to score {request.model}, but {reply.reason}")
        assert isinstance(reply, EngineOpened)
        return reply

    def _ask(self, request: Request, *, seconds: float) -> Reply:
        try:
            self._connection.send(request)
        except OSError as error:
            raise self._lost() from error
        return self._reply(seconds=seconds)

    def _reply(self, *, seconds: float) -> Reply:
        try:
            if not self._connection.poll(seconds):
                raise EngineLost(f"the engine must reply within {seconds:g} seconds, but did not: it hangs")
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._lost() from error

    def _lost(self) -> EngineLost:
        """Why nothing more will come."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        return EngineLost(f"the engine's process {_end(self._process.poll())}; its last words: {self._tail()}")

    def _tail(self) -> str:
        """The last line that the process printed."""
        self._log.seek(max(self._log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES, 0))
        lines = self._log.read().decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "none")


def engine_environment(parent: Mapping[str, str], *, threads: int | None) -> dict[str, str]:
    """The child's environment: this process's, without vLLM's variables, which could change scores unseen."""
    kept = {name: value for name, value in parent.items() if not name.startswith("VLLM_")}
    return kept | _ENVIRONMENT | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})


def _pipe() -> tuple[Connection[Request, Reply], Connection[Reply, Request]]:
    ours, theirs = Pipe()
    return ours, theirs


def _end(code: int | None) -> str:
    if code is None:
        return "has closed its connection and hangs"
    return f"ended with signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
