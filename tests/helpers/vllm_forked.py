"""Engines forked from a process that has vLLM loaded: importing it is most of what the start of an engine takes.

    python -m tests.helpers.vllm_forked SOCKET [KIND] FD

stands in the place of `python -m workers.vllm_backend.child FD`: it has an engine's process forked, which gets its
standard streams and the connection FD, and ends with it. KIND is one of tests/helpers/vllm_children.py.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def loaded_vllm(directory: Path) -> Iterator[tuple[str, ...]]:
    """The process that engines are forked from; what to start instead of the child's module."""
    from tests.helpers.paths import ROOT
    from tests.helpers.waiting import wait_until
    from workers.vllm_backend.process import engine_environment

    address = directory / "socket"
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(address)],
        stdin=subprocess.PIPE,  # its end ends the process
        env=engine_environment(os.environ, threads=1),
        cwd=ROOT,
    )
    try:
        wait_until(lambda: address.exists() or process.poll() is not None)
        yield __name__, str(address)
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    """Either of the two processes."""
    if len(sys.argv) > 2:
        _have_one_forked(sys.argv[1], "".join(sys.argv[2:-1]), int(sys.argv[-1]))
    else:
        _fork_engines(sys.argv[1])


def _have_one_forked(address: str, kind: str, connection: int) -> None:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(address)
        socket.send_fds(asking, [f"{kind}.".encode()], [0, 1, 2, connection])
        for descriptor in (0, connection):
            os.close(descriptor)  # their ends tell of ends
        asking.recv(1)  # nothing, when the engine's process is gone


def _fork_engines(address: str) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()  # who asks while this loads waits
    import vllm.v1.worker.cpu_worker  # noqa: F401
    from vllm import LLM  # noqa: F401  # which the package loads when it is asked for

    import workers.vllm_backend.engine  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while 0 not in select.select([listening.fileno(), 0], [], [])[0]:
        asking, _ = listening.accept()
        kind, descriptors, _, _ = socket.recv_fds(asking, 100, 4)
        if os.fork() == 0:
            listening.close()
            _be_an_engine(kind.decode().removesuffix("."), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        asking.close()


def _be_an_engine(kind: str, descriptors: list[int]) -> None:
    """`asking` stays open here until the end."""
    from tests.helpers.vllm_children import KINDS
    from workers.vllm_backend import child

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    for stream in range(3):
        os.dup2(descriptors[stream], stream)
        os.close(descriptors[stream])
    sys.argv = [child.__name__, str(descriptors[3])]
    try:
        if kind:
            KINDS[kind]()
        child.main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
