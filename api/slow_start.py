"""What a start that takes long is at, so that nobody takes it for one that hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

EVERY_SECONDS = 10.0


class SlowStart:
    """Tells every ten seconds what is being started, as long as the block lasts or until `done`."""

    def __init__(self, tell: Callable[[str], None], *, every_seconds: float = EVERY_SECONDS) -> None:
        self._tell, self._every = tell, every_seconds
        self._stage = "the program"
        self._began = time.monotonic()
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slow start", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.done()
        self._thread.join()

    def at(self, stage: str) -> None:
        """What is started from now on."""
        self._stage = stage

    def done(self) -> None:
        """It runs: nothing more is told."""
        self._is_done.set()

    def _run(self) -> None:
        while not self._is_done.wait(self._every):
            self._tell(f"still starting {self._stage}, {time.monotonic() - self._began:.0f} s so far")
