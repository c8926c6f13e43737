"""The hand-off: runs a fine-tuning job on Ray and follows it from the controller."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import ray
from ray.actor import ActorHandle, ActorProxy
from ray.exceptions import RayActorError, RayTaskError

from evaluation.model_source import ModelSource, resolve_model
from finetune.config import FinetuneSettings
from finetune.job import FinetuneResult, check_fits, run_finetune
from finetune.training import TrainingProgress
from search_space.factor_file import FactorFile
from service.errors import FactorsNotReady, InvalidSpec, RunFailed
from service.prepare import parse_factor_file
from service.runtime import ProgressWriter, Runtime
from service.spec import FinetuneJobSpec, FinetuneSpec
from storage.jobs import JobStore
from storage.records import JobState, Progress

POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedFinetune:
    """A fine-tuning job ready to run."""

    source: ModelSource
    file: FactorFile
    settings: FinetuneSettings


def settings_from(spec: FinetuneSpec) -> FinetuneSettings:
    """The recipe's defaults with what the user set.

    Raises:
        InvalidFinetuneSettings: a value breaks a rule of the recipe.
    """
    given = spec.model_dump(exclude_none=True)
    if spec.steps is not None and spec.warmup_steps is None:
        given["warmup_steps"] = min(spec.steps, FinetuneSettings().warmup_steps)
    return FinetuneSettings(**given)


def prepare_finetune(spec: FinetuneJobSpec, jobs: JobStore) -> PreparedFinetune:
    """Resolve the factors and the model.

    Raises:
        JobNotFound, FactorsNotReady: the search is unknown, or has no factors yet.
        InvalidSpec: the factor file or a setting breaks a rule.
    """
    file = factor_file_of(jobs, spec.search_id) if spec.search_id is not None else _given(spec)
    source = resolve_model(spec.model or file.model.name)
    check_fits(source, file)
    return PreparedFinetune(source=source, file=file, settings=settings_from(spec.settings))


def _given(spec: FinetuneJobSpec) -> FactorFile:
    assert spec.factors is not None  # the spec holds exactly one of the two
    return parse_factor_file(spec.factors, pointer="/factors")


def factor_file_of(jobs: JobStore, search_id: str) -> FactorFile:
    """The factors of a search that has chosen its winner.

    Raises:
        JobNotFound: no search has this id.
        FactorsNotReady: it has no winner (yet); says which state it is in.
    """
    job = jobs.get(search_id)
    if job.kind != "search":
        raise InvalidSpec(f"search_id must name a search, but {search_id} is a {job.kind}", pointer="/search_id")
    if job.result_json is None:
        raise FactorsNotReady(f"search {search_id} has no factors: its state is {job.state}")
    return FactorFile.from_json(json.dumps(json.loads(job.result_json)["factors"]))


class FinetuneActor:
    """Trains in a process of its own; answers `progress` while `run` is at work."""

    def __init__(self) -> None:
        self._progress: TrainingProgress | None = None

    @ray.method
    def run(self, prepared: PreparedFinetune, output: Path) -> FinetuneResult:
        """Train to the end; the result names the checkpoint."""
        return run_finetune(prepared.source, prepared.file, prepared.settings, output, self._remember)

    @ray.method
    def progress(self) -> TrainingProgress | None:
        """The last step that is done; None before the first."""
        return self._progress

    def _remember(self, progress: TrainingProgress) -> None:
        self._progress = progress


def _start_actor() -> ActorProxy[FinetuneActor]:
    # Two calls at once: `run`, and `progress` beside it.
    actor_class = ray.remote(num_cpus=1, max_restarts=0)(FinetuneActor)
    gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0))  # type: ignore[no-untyped-call]
    return actor_class.options(max_concurrency=2, num_gpus=gpus).remote()


def run_finetune_job(runtime: Runtime, prepared: PreparedFinetune) -> FinetuneResult:
    """Train in an actor, follow it, and leave the checkpoint among the job's artifacts.

    A job that is taken over by another controller starts its training again from the first step: the data order is a
    function of the seed, so it ends at the same weights.

    Raises:
        LeaseLost, RunStopped: see `LeaseKeeper.check`; the training is killed.
        RunFailed: the training process died or refused; says why.
    """
    runtime.enter(JobState.training)
    actor = _start_actor()
    try:
        return _follow(runtime, actor, actor.run.remote(prepared, runtime.artifacts / "checkpoint"))
    except RayTaskError as error:
        cause = error.cause
        raise RunFailed(f"fine-tuning failed: {cause}", code=getattr(cause, "code", "FINETUNE_FAILED")) from error
    except RayActorError as error:
        raise RunFailed("the fine-tuning process died", code="WORKER_LOST") from error
    finally:
        ray.kill(cast("ActorHandle[FinetuneActor]", actor))


def _follow(
    runtime: Runtime, actor: ActorProxy[FinetuneActor], result: ray.ObjectRef[FinetuneResult]
) -> FinetuneResult:
    writer = ProgressWriter(runtime)
    seen = 0
    while True:
        runtime.keeper.check()
        done, _ = ray.wait([result], timeout=POLL_SECONDS)
        if done:
            return ray.get(result)
        progress = ray.get(actor.progress.remote())
        if progress is not None and progress.step > seen:
            seen = progress.step
            writer.write(_to_record(progress))
            runtime.event(
                "training.step",
                step=progress.step,
                steps=progress.total,
                loss_long=progress.loss_long,
                loss_short=progress.loss_short,
                learning_rate=progress.learning_rate,
            )


def finetune_result_json(prepared: PreparedFinetune, result: FinetuneResult) -> str:
    """What the fine-tuning job's resource shows as `result`."""
    return json.dumps(
        {
            "checkpoint": str(result.checkpoint),
            "model": prepared.source.name,
            "target_length": prepared.file.target_length,
            "factors": json.loads(prepared.file.to_json()),
            "steps": result.steps,
            "tokens": result.tokens,
            "initial_loss_long": result.initial_loss_long,
            "final_loss_long": result.final_loss_long,
            "initial_loss_short": result.initial_loss_short,
            "final_loss_short": result.final_loss_short,
            "seconds": result.seconds,
        }
    )


def _to_record(progress: TrainingProgress) -> Progress:
    return Progress(
        stage="training",
        fraction=progress.step / progress.total,
        note=f"step {progress.step} of {progress.total}",
    )
