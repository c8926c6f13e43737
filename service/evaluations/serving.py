"""What contenders generate and read for all measures that ask for it, as a server of each contender would do it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.evaluations.contenders import Contender, Setup, setups_at
from service.evaluations.measure import Found, PreparedEvaluation, ServedWork
from service.evaluations.progress import EvaluationProgress
from service.runtime.job import Runtime
from service.runtime.starting import StartWatch, tell_limits
from workers.errors import ScoringFailed
from workers.generator import ServingTask
from workers.pool.generation import GenerationPool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """A question that is not answered yet. place: among the questions of its measure to its setup."""

    work: str
    setup: Setup
    place: int
    question: Any


def serve(
    runtime: Runtime,
    prepared: PreparedEvaluation,
    works: Mapping[str, ServedWork[Any, Any]],
    progress: EvaluationProgress,
) -> Found:
    """What all `works` found; what two contenders share is asked once.

    Raises:
        LeaseLost, RunStopped: see `LeaseKeeper.check`.
        ScoringFailed: a question could not be answered.
    """
    scores: dict[str, dict[Setup, dict[int, Any]]] = {name: {} for name in works}
    for model, opened in prepared.settings().items() if works else ():
        ours = [contender for contender in prepared.contenders if contender.model == model]
        note = f"{' and '.join(works)}: {', '.join(one.name for one in ours)}"
        waiting: dict[str, _Asked] = {}
        with GenerationPool(opened, workers=prepared.spec.workers) as pool:
            tell_limits(runtime, pool.room())
            watch = _PoolWatch(runtime, pool)
            for outcome in pool.run(_tasks(ours, works, waiting), check=watch.check):
                runtime.keeper.check()
                if outcome.answer is None:
                    raise ScoringFailed(f"task {outcome.task_key} could not be done: {outcome.error}")
                asked = waiting.pop(outcome.task_key)
                score = works[asked.work].score(asked.question, outcome.answer)
                scores[asked.work].setdefault(asked.setup, {})[asked.place] = score
                progress.advance(note, tokens=asked.setup.length)
    return {
        field: value for name, work in works.items() for field, value in work.found(_in_order(scores[name])).items()
    }


class _PoolWatch:
    """Tells what a pool waits for, until one of its workers is ready, and that it is."""

    def __init__(self, runtime: Runtime, pool: GenerationPool) -> None:
        self._runtime, self._pool = runtime, pool
        self._starting: StartWatch | None = StartWatch(runtime, pool.room)

    def check(self) -> None:
        """As `StartWatch.check`."""
        if self._starting is not None and self._pool.is_ready:
            self._starting = None
            self._runtime.set_condition("WorkersReady", True, "Ready", "a worker has loaded the model")
        (self._runtime.keeper if self._starting is None else self._starting).check()


def _tasks(
    contenders: Sequence[Contender], works: Mapping[str, ServedWork[Any, Any]], waiting: dict[str, _Asked]
) -> Iterator[ServingTask]:
    for name, work in works.items():
        for length in work.lengths:
            setups = setups_at(contenders, (length,))
            for place, question in enumerate(work.questions(length)):
                for number, (setup, contender) in enumerate(setups.items()):
                    key = f"{name}:{length}:{place}:{number}"
                    waiting[key] = _Asked(work=name, setup=setup, place=place, question=question)
                    yield work.task(key, contender.rope, question)


def _in_order(scores: Mapping[Setup, Mapping[int, Any]]) -> dict[Setup, tuple[Any, ...]]:
    return {setup: tuple(found[place] for place in sorted(found)) for setup, found in scores.items()}
