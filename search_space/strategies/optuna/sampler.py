"""One of Optuna's samplers at work on a study in memory: the only place of this room that knows Optuna.

Nothing here is read from outside or kept: a study lives for one call of a strategy. That is why the rule that keeps
Optuna out of this room has an exception for this module, and why the pickles that Optuna's CMA-ES passes from trial to
trial are harmless: they never leave the process.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_space.errors import InvalidStrategy
from search_space.strategies.optuna.settings import CMA_ES, GP, TPE, OptunaSettings

# Optuna's TPE and GP draw at random until they have seen this many scores.
_SCORES_TO_LEARN_FROM = 10
# Warm starting takes the best tenth of what it is given, and fails without one.
_SCORES_TO_WARM_START_FROM = 10
# What they log: that a study was created, that greenlet would be faster, that a local search was cut short.
_TALKATIVE = ("optuna.storages._in_memory", "optuna._gp.batched_lbfgsb", "optuna._gp.optim_mixed")


def check_installed(sampler: str) -> None:
    """Raise :class:`InvalidStrategy` if a package that `sampler` needs is missing; Optuna itself requires none."""
    if sampler == CMA_ES and importlib.util.find_spec("cmaes") is None:
        raise InvalidStrategy("CmaEsSampler needs the Python package cmaes, which is not installed here")


class SamplerStudy:
    """Asks a sampler for points in the unit cube of the axes `names`, and tells it their scores.

    A score is told as a number to minimise, or None where the point could not be scored. Scores given to the
    constructor belong to points that the sampler did not ask for. A point without a score stays a running trial, which
    TPE (constant liar) and GP (q-batch expected improvement) keep away from.
    """

    def __init__(
        self,
        settings: OptunaSettings,
        seed: int,
        names: Sequence[str],
        scored: Sequence[tuple[NDArray[np.float64], float | None]],
    ) -> None:
        self._axes: dict[str, BaseDistribution] = {name: FloatDistribution(0.0, 1.0) for name in names}
        trials = [self._trial(point, score) for point, score in scored]
        storage = InMemoryStorage()
        with _quiet():
            storage.create_new_study([StudyDirection.MINIMIZE], "shapes")
        self._study = Study("shapes", storage, sampler=_sampler(settings, seed, len(names), trials))
        self._study.add_trials(trials)

    def ask(self) -> tuple[int, NDArray[np.float64]]:
        """A number to tell the score by, and a point: (axes,) in [0, 1]."""
        with _quiet():
            trial = self._study.ask(self._axes)
        return trial.number, np.array([trial.params[name] for name in self._axes])

    def tell(self, number: int, score: float | None) -> None:
        """The score of the point that was asked under `number`."""
        state = TrialState.FAIL if score is None else TrialState.COMPLETE
        self._study.tell(number, score, state=state)

    def _trial(self, point: NDArray[np.float64], score: float | None) -> FrozenTrial:
        return create_trial(
            state=TrialState.FAIL if score is None else TrialState.COMPLETE,
            value=score,
            params=dict(zip(self._axes, point.tolist(), strict=True)),
            distributions=self._axes,
        )


def _sampler(settings: OptunaSettings, seed: int, axes: int, trials: Sequence[FrozenTrial]) -> BaseSampler:
    enough = min(_SCORES_TO_LEARN_FROM, settings.startup)
    with warnings.catch_warnings():  # filters are the process's: for no longer than this
        warnings.simplefilter("ignore", ExperimentalWarning)
        if settings.sampler == TPE:
            return TPESampler(seed=seed, n_startup_trials=enough, multivariate=settings.multivariate)
        if settings.sampler == GP:
            return GPSampler(
                seed=seed,
                n_startup_trials=enough,
                deterministic_objective=settings.deterministic_objective,
                warn_independent_sampling=False,
            )
        if settings.sampler == CMA_ES:
            return _cma_es(settings, seed, axes, trials)
        return RandomSampler(seed=seed)


def _cma_es(settings: OptunaSettings, seed: int, axes: int, trials: Sequence[FrozenTrial]) -> CmaEsSampler:
    """CMA-ES around the best of `trials`, which it did not ask for and would not learn from otherwise.

    With too few of them it starts from the middle of the cube.
    """
    scored = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return CmaEsSampler(
        seed=seed,
        popsize=settings.popsize_for(axes),
        lr_adapt=settings.lr_adapt,
        source_trials=scored if len(scored) >= _SCORES_TO_WARM_START_FROM else None,
        warn_independent_sampling=False,
    )


class _NotFromThisThread(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps to itself what Optuna logs about a study that no user knows of.

    For this thread and these modules only: Optuna's verbosity belongs to whoever uses it for a real study.
    """
    own = _NotFromThisThread()
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    for logger in loggers:
        logger.addFilter(own)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(own)
