"""How far an evaluation is, over all its parts."""

from service.runtime.job import Pace, ProgressWriter, Runtime
from storage.records import Progress


class EvaluationProgress:
    """Counts what is done of `total` units: documents scored, prompts answered, texts read, harness runs."""

    def __init__(self, runtime: Runtime, *, total: int) -> None:
        self._writer = ProgressWriter(runtime)
        self._pace = Pace()
        self._pace.seconds_left(0, total)
        self._done = 0
        self._tokens = 0
        self._total = total

    @property
    def tokens(self) -> int:
        """What was read so far, prompts counted as long as their length."""
        return self._tokens

    def advance(self, note: str, *, tokens: int = 0) -> None:
        """One more of so many tokens, where that is known; `note` says of what."""
        self._done += 1
        self._tokens += tokens
        self._write(note, flush=self._done == self._total)

    def note(self, note: str) -> None:
        """Say what is at work now."""
        self._write(note, flush=False)

    def _write(self, note: str, *, flush: bool) -> None:
        progress = Progress(
            stage="evaluating",
            document_passes=self._done,
            total_document_passes=self._total,
            tokens=self._tokens,
            fraction=self._done / self._total,
            seconds_left=self._pace.seconds_left(self._done, self._total),
            note=note,
        )
        self._writer.write(progress, flush=flush)
