"""What a worker tells when it cannot succeed; the rest of it runs in tests/service/finetunes/test_run.py."""

from pathlib import Path

from evaluation.errors import CorpusNotFound
from evaluation.models.source import ModelSource
from finetune.config import FinetuneSettings
from finetune.ray_worker import train_worker
from finetune.results import FinetuneResult, TrainingProgress
from finetune.worker_task import WorkerTask
from ropewalk.factors.factor_file import FactorFile


class Listener:
    def __init__(self) -> None:
        self.refusals: list[Exception] = []
        self.has_begun = False

    def began(self) -> None:
        self.has_begun = True

    def loading(self, share: float) -> None:
        raise AssertionError("nothing can be loaded")

    def step_done(self, progress: TrainingProgress) -> None:
        raise AssertionError("no step can be done")

    def succeeded(self, result: FinetuneResult) -> None:
        raise AssertionError("it cannot succeed")

    def refused(self, error: Exception) -> None:
        self.refusals.append(error)


def test_what_would_fail_again_is_told_and_not_raised(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path
) -> None:
    """Ray Train starts a worker again that raises."""
    listener = Listener()
    task = WorkerTask(
        source=tiny_source,
        file=factor_file,
        settings=FinetuneSettings(corpus=str(tmp_path / "none.txt")),
        output=tmp_path / "out",
        states=tmp_path,
        token_cache=tmp_path,
    )
    train_worker(task, listener)
    (refusal,) = listener.refusals
    assert isinstance(refusal, CorpusNotFound)
