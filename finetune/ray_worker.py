"""What Ray Train runs in every worker of a fine-tuning: `finetune.job` with checkpoints that Ray keeps.

A training that cannot succeed (a loss that diverges, a corpus that is too short) is passed to the reporter and ends
well for Ray, which would otherwise start it again; anything else is Ray's to retry from the last checkpoint.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ray import train

from evaluation.errors import EvaluationError
from evaluation.models.loading import heard_by
from finetune.errors import FinetuneError
from finetune.worker_task import Reporter, States, WorkerTask
from ropewalk.errors import RopewalkError

REFUSALS = (FinetuneError, EvaluationError, RopewalkError)


def train_worker(task: WorkerTask, reporter: Reporter, states: States | None = None) -> None:
    """Train in this process as one of Ray Train's workers; `states` where `task` names no directory for them."""
    # Imported here: the processes that only pass this function on need not wait for torch and transformers.
    from finetune.job import run_finetune
    from finetune.parallel import current_ranks

    is_first = current_ranks().is_first
    if is_first:
        reporter.began()
    if states is None:
        assert task.states is not None  # one of the two is given
        states = RayStates(task.states)
    with _output(task) as output, heard_by(reporter.loading if is_first else lambda share: None):
        try:
            result = run_finetune(
                task.source,
                task.file,
                task.settings,
                output,
                reporter.step_done if is_first else lambda progress: None,
                states=states,
                token_cache=task.token_cache,
            )
        except REFUSALS as error:
            if is_first:
                reporter.refused(error)
            return
        if is_first:
            reporter.succeeded(result)


@contextmanager
def _output(task: WorkerTask) -> Iterator[Path]:
    """Where the checkpoint is written; a directory of this machine is gone when the reporter has heard of it."""
    if task.output is not None:
        yield task.output
        return
    with tempfile.TemporaryDirectory(prefix="ropewalk-checkpoint-") as scratch:
        yield Path(scratch) / "checkpoint"


class RayStates:
    """States that Ray Train keeps; those of owners before this one are found in the same place."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def newest(self) -> Path | None:
        """This run's own after a worker was lost, else the newest of an owner before."""
        from finetune.training_state import newest_state

        checkpoint = train.get_checkpoint()
        if checkpoint is not None:
            return Path(checkpoint.path)
        return newest_state(list(self._directory.glob("*/checkpoint_*")))

    def save(self, step: int, write: Callable[[Path], bool]) -> None:
        """Hand one to Ray, which puts the parts of all workers into one directory."""
        with tempfile.TemporaryDirectory(prefix=".state-", dir=self._directory) as scratch:
            wrote = write(Path(scratch))
            train.report({"step": step}, checkpoint=train.Checkpoint.from_directory(scratch) if wrote else None)
