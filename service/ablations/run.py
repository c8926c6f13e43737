"""Runs an ablation as a Ray Tune experiment: a trial per cell, as many side by side as workers, resumable at any time.

A finished cell is a file, and only that counts. Tune's own state says what to start again after a crash, but it is
written every ten seconds or so: a cell that finished since then is started once more, finds its file and returns.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray
from ray import tune

from service.ablations.cells import AblationStore, run_cell
from service.ablations.results import Ablation, CellResult, Failure
from service.ablations.spec import AblationSpec, Cell
from service.errors import InvalidSpec
from service.searches.prepare import USER_ERRORS, prepare_search
from workers.pool.cluster import ensure_ray
from workers.pool.room import gpu_share
from workers.pool.slots import one_line

_POLL_SECONDS = 0.5
# Read by Tune from the environment alone. No logs of its own beside our files; Ctrl-C ends the process as it does
# elsewhere; relative paths mean what they mean in this process; failures are reported once, by us; of its two reporters
# only the older is silent when asked to be.
_TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}

OnCell = Callable[[Cell, CellResult | None], object]
"""(cell, its result; None for baselines), once for every cell that is finished, those of earlier runs first."""


def run_ablation(
    spec: AblationSpec,
    store: AblationStore,
    *,
    workers: int = 1,
    ray_address: str | None = None,
    on_cell: OnCell = lambda cell, result: None,
) -> Ablation:
    """Run what `store` does not hold yet of the experiment, and gather all of it.

    Each cell takes a CPU, and its share of the GPUs where there are any. Cells that failed are listed in the result
    and do not keep others from running. `on_cell` is called from another thread.

    Raises:
        InvalidSpec: a search of the experiment is refused.
        ScorerUnavailable: no Ray at `ray_address`, or none can start here.
    """
    cells = spec.cells()
    failures: tuple[Failure, ...] = ()
    with _told(store, cells, on_cell):
        if len(store.finished(cells)) < len(cells):
            check_ablation(spec)
            ensure_ray(ray_address, num_cpus=workers)
            failures = _run_missing(spec, store, workers, at_most=workers if ray_address else None)
    return gather(spec, store, failures)


def check_ablation(spec: AblationSpec) -> None:
    """Prepare each search of the first seed, so that a mistake is reported before anything runs.

    Raises:
        InvalidSpec: what is refused, and why.
    """
    for cell in spec.cells():
        if cell.seed == spec.all_seeds[0] or cell.strategy is None:
            try:
                prepare_search(spec.search_spec(cell), weights=False)
            except USER_ERRORS as error:
                raise InvalidSpec(f"{cell}: {error}") from error


def gather(spec: AblationSpec, store: AblationStore, failures: tuple[Failure, ...] = ()) -> Ablation:
    """What is finished so far, by cell number."""
    finished = store.finished(spec.cells())
    return Ablation(
        spec=spec,
        cells=tuple(store.search(cell) for cell in finished if cell.strategy is not None),
        baselines=tuple(row for cell in finished if cell.strategy is None for row in store.baselines(cell)),
        failures=failures,
    )


def _run_missing(spec: AblationSpec, store: AblationStore, workers: int, *, at_most: int | None) -> tuple[Failure, ...]:
    os.environ.update(_TUNE_ENVIRONMENT)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # "Trials did not complete": reported below, by name
    cells = {cell.name: cell for cell in spec.cells()}

    def run(config: dict[str, str]) -> dict[str, str]:
        """A trial: one cell, unless its file is there."""
        cell = cells[config["cell"]]
        if not store.path(cell).exists():
            store.put(cell, run_cell(spec, cell))
        return {"cell": cell.name}

    trainable = tune.with_resources(run, _resources(spec, workers))
    results = _tuner(trainable, store, list(cells), at_most=at_most).fit()
    ended = [results[index] for index in range(len(results))]
    reasons = {one.config["cell"]: one_line(one.error) for one in ended if one.error and one.config}
    finished = {cell.name for cell in store.finished(spec.cells())}
    return tuple(
        Failure(cell=str(cell), reason=reasons.get(name, "it was not run"))
        for name, cell in cells.items()
        if name not in finished
    )


def _resources(spec: AblationSpec, workers: int) -> dict[str, float]:
    """Of one cell."""
    settings = prepare_search(spec.search_spec(spec.cells()[0]), weights=False).scorer_settings()
    cluster: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return {"cpu": 1.0, "gpu": gpu_share(settings, workers=workers, cluster_gpus=cluster.get("GPU", 0.0))}


def _tuner(
    trainable: Callable[..., object], store: AblationStore, names: list[str], *, at_most: int | None
) -> tune.Tuner:
    """The experiment as Tune knows it, begun anew or where it was.

    `at_most` cells side by side, as the experiment was begun; None where the CPUs of a Ray of our own are the limit.
    """
    state = str(store.tune_state)
    space = {"cell": tune.grid_search(names)}
    if tune.Tuner.can_restore(state):
        # The space again: killed before it first wrote its trials down, Tune has only this to begin with.
        return tune.Tuner.restore(state, trainable, resume_unfinished=True, resume_errored=True, param_space=space)
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(max_concurrent_trials=at_most, reuse_actors=True),
        run_config=tune.RunConfig(name=store.tune_state.name, storage_path=str(store.directory), verbose=0),
    )


@contextmanager
def _told(store: AblationStore, cells: tuple[Cell, ...], on_cell: OnCell) -> Iterator[None]:
    """Tell of finished cells as their files appear.

    Not by a callback of Tune's: a restored Tuner brings the callbacks that it was stored with, not ours.
    """
    told: set[str] = set()
    ended = threading.Event()

    def tell() -> None:
        for cell in store.finished([cell for cell in cells if cell.name not in told]):
            told.add(cell.name)
            on_cell(cell, None if cell.strategy is None else store.search(cell))

    def watch() -> None:
        while not ended.wait(_POLL_SECONDS):
            tell()

    tell()
    watcher = threading.Thread(target=watch, name="ablation-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        tell()
