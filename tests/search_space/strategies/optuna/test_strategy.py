"""What is special to Optuna's samplers; what every strategy promises is in test_contract.py."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import optuna
import pytest
from numpy.typing import NDArray

from ropewalk.rope.config import RopeConfig
from ropewalk.rope.rescale_factors import RescaleFactors
from search_space.candidates.candidate import ScoredCandidate
from search_space.errors import InvalidStrategy
from search_space.strategies.base import Strategy, StrategyContext
from search_space.strategies.optuna import sampler as optuna_study
from search_space.strategies.optuna import strategy as optuna_strategy
from search_space.strategies.optuna.sampler import SamplerStudy
from search_space.strategies.optuna.settings import CMA_ES, GP, RANDOM, TPE, OptunaSettings
from search_space.strategies.registry import make_strategy
from search_space.strategies.shape_space import ShapeSpace
from tests.helpers.breeding import play
from tests.helpers.strategy_cases import NEEDS_CMAES

POCKET = RopeConfig(rope_theta=1000.0, rotary_dim=32, original_max_position_embeddings=256)
SAMPLERS = (TPE, CMA_ES, GP, RANDOM)
MARKS = {"CmaEsSampler": [NEEDS_CMAES], "GPSampler": [pytest.mark.torch, pytest.mark.slow]}
PARAMETERS = [pytest.param(name, marks=MARKS.get(name, ())) for name in SAMPLERS]
EVERY = pytest.mark.parametrize("sampler", PARAMETERS)
LEARNING = pytest.mark.parametrize("sampler", PARAMETERS[:3])


def _context(*, length: int = 1024, seed: int = 0, attention_factor: float | None = None) -> StrategyContext:
    return StrategyContext(rope=POCKET, target_length=length, seed=seed, attention_factor=attention_factor, documents=2)


def _strategy(sampler: str, **arguments: object) -> Strategy:
    return make_strategy("optuna", {"sampler": sampler, **arguments}, _context())


def _with_scores(history: Sequence[ScoredCandidate], nll: dict[int, float]) -> list[ScoredCandidate]:
    return [replace(scored, nll=nll.get(scored.trial, scored.nll)) for scored in history]


@pytest.mark.slow
@EVERY
def test_a_search_finds_better_than_it_starts_with(sampler: str) -> None:
    small = {"startup": 8, "batch": 3, "candidates": 14 if sampler == "GPSampler" else 56}
    search = play(_strategy(sampler, **small))
    start = min(scored.nll for scored in search.bred if scored.generation == 0)
    best = min(scored.nll for scored in search.bred)
    # The least there is: 0.05 on a document of level 1, here a mean of 1.05.
    least = 0.05 * 1.05
    share = 1.0 if sampler == "RandomSampler" else 0.5
    assert best - least < share * (start - least)


@EVERY
def test_the_first_generation_is_the_same_for_every_sampler_and_spread_over_each_axis(sampler: str) -> None:
    context = _context()
    bred = _strategy(sampler).propose(0, ()).bred
    assert bred == _strategy("RandomSampler").propose(0, ()).bred
    assert {candidate.origin for candidate in bred} == {"initial"}
    points = np.array([ShapeSpace.of(context).point(candidate) for candidate in bred])
    # A scrambled Sobol sequence has one of its first 16 points in each sixteenth of each axis.
    assert all(sorted(np.floor(column * 16).astype(int)) == list(range(16)) for column in points.T)


@EVERY
def test_generations_are_batches_until_the_candidates_are_used_up(sampler: str) -> None:
    search = play(_strategy(sampler, startup=10, batch=4, candidates=16))
    assert [len(step.bred) for step in search.steps] == [10, 4, 2, 0]
    assert all(step.documents == (0, 1) and not step.keep_open for step in search.steps[:-1])
    assert {scored.candidate.origin for scored in search.bred if scored.generation} == {sampler}


@LEARNING
def test_a_sampler_looks_at_the_scores(sampler: str) -> None:
    strategy = _strategy(sampler, startup=10, batch=1, candidates=16, **_popsize(sampler, 4))
    history = play(strategy, generations=1).history
    worst = max((one for one in history if one.candidate.genes), key=_nll)
    better = _with_scores(history, {worst.trial: 1e-3})
    assert strategy.propose(1, better) != strategy.propose(1, history)


def test_random_draws_do_not_depend_on_the_scores() -> None:
    strategy = _strategy("RandomSampler")
    history = play(strategy, generations=1).history
    assert strategy.propose(1, _with_scores(history, {10: 1e-3})) == strategy.propose(1, history)


@EVERY
def test_a_generation_has_its_own_draws(sampler: str) -> None:
    strategy = _strategy(sampler, startup=10, batch=1, **_popsize(sampler, 4))
    one = play(strategy, generations=1).history
    assert strategy.propose(1, one).bred != strategy.propose(2, one).bred


@NEEDS_CMAES
def test_cma_es_goes_on_as_one_that_was_never_interrupted() -> None:
    context = _context()
    settings = OptunaSettings(sampler="CmaEsSampler", startup=10, batch=4, popsize=4, candidates=30)
    search = play(make_strategy("optuna", {**_arguments(settings)}, context))
    space = ShapeSpace.of(context)
    told = [
        (optuna_strategy._point(space, scored.candidate), optuna_strategy._told(scored))
        for scored in search.histories[1]
    ]
    seed = int(np.random.SeedSequence([0, 1]).generate_state(1)[0])
    names = [axis.name for axis in space.axes]
    live = SamplerStudy(settings, seed, names, [(point, score) for point, score in told if point is not None])
    for generation in range(1, 6):
        scored = [one for one in search.bred if one.generation == generation]
        asked = [live.ask() for _ in scored]
        assert [space.candidate(point.tolist(), origin="CmaEsSampler") for _, point in asked] == [
            one.candidate for one in scored
        ]
        for (number, _), one in zip(asked, scored, strict=True):
            live.tell(number, optuna_strategy._told(one))


@NEEDS_CMAES
def test_cma_es_learns_from_every_generation() -> None:
    strategy = _strategy("CmaEsSampler", startup=10, batch=4, popsize=4, candidates=30)
    search = play(strategy)
    history, expected = search.histories[4], search.steps[4]
    for generation in range(4):
        worst = max((one for one in history if one.generation == generation and one.candidate.genes), key=_nll)
        assert strategy.propose(4, _with_scores(history, {worst.trial: 1e-3})) != expected


@NEEDS_CMAES
def test_cma_es_starts_from_the_middle_without_enough_scores() -> None:
    # 9 shapes and NTK at the critical pair are ten scores, 8 are one too few.
    context = _context()
    space = ShapeSpace.of(context)
    distances = []
    for startup in (8, 9):
        strategy = _strategy("CmaEsSampler", startup=startup, batch=64, popsize=64, candidates=100)
        history = play(strategy, generations=1).history
        best = min((one for one in history if one.candidate.genes), key=_nll)
        better = _with_scores(history, {best.trial: 0.0})
        points = np.array([space.point(candidate) for candidate in strategy.propose(1, better).bred])
        distances.append(float(np.abs(points.mean(axis=0) - space.point(best.candidate)).max()))
    assert distances[1] < 0.1 < distances[0]


@pytest.mark.parametrize("sampler", PARAMETERS[::2])
def test_failed_candidates_are_told_as_failed(sampler: str) -> None:
    """A failed trial teaches TPE and GP nothing: they propose as if it were not there."""
    strategy = _strategy(sampler, startup=12, batch=2)
    history = play(strategy, generations=1).history
    failed = _with_scores(history, {one.trial: math.inf for one in history[-2:]})
    assert strategy.propose(1, failed).bred == strategy.propose(1, history[:-2]).bred
    assert strategy.propose(1, failed).bred != strategy.propose(1, history).bred


def test_of_the_baselines_only_ntk_at_the_critical_pair_is_told() -> None:
    strategy = _strategy("TPESampler")
    found = play(strategy, generations=1).history
    history = _with_scores(found, {one.trial: 9.0 for one in found if not one.candidate.genes})
    expected = strategy.propose(1, history)
    changed = {
        one.candidate.baseline_name
        for one in history
        if not one.candidate.genes
        and strategy.propose(1, _with_scores(history, {one.trial: 1e-3})).bred != expected.bred
    }
    assert changed == {"ntk_critical"}


def test_the_baseline_is_told_as_the_shape_that_it_is() -> None:
    context = _context(attention_factor=1.1)
    space = ShapeSpace.of(context)
    baselines = make_strategy("optuna", {}, context).propose(0, ()).candidates[:8]
    points = [(candidate, optuna_strategy._point(space, candidate)) for candidate in baselines]
    for candidate, point in points:
        if point is not None:
            shape = space.candidate(point.tolist(), origin="")
            np.testing.assert_allclose(
                shape.scaling.factors.as_array(), candidate.scaling.factors.as_array(), rtol=1e-12
            )
            assert shape.scaling.attention_factor == candidate.scaling.attention_factor == 1.1
    assert sum(point is not None for _, point in points) == 1


class _Scripted:
    """In the place of a SamplerStudy: asks for points from a list and keeps what it is told."""

    points: tuple[float, ...] = ()
    told: list[tuple[int, float | None]]

    def __init__(
        self,
        settings: OptunaSettings,
        seed: int,
        names: Sequence[str],
        scored: Sequence[tuple[NDArray[np.float64], float | None]],
    ) -> None:
        self._axes, self._asked = len(names), 0
        type(self).told = []

    def ask(self) -> tuple[int, NDArray[np.float64]]:
        number, self._asked = self._asked, self._asked + 1
        return number, np.full(self._axes, self.points[min(number, len(self.points) - 1)])

    def tell(self, number: int, score: float | None) -> None:
        self.told.append((number, score))


def test_shapes_that_were_scored_are_told_their_score_and_not_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna_strategy, "SamplerStudy", _Scripted)
    context = _context()
    strategy = make_strategy("optuna", {"batch": 3, "candidates": 30}, context)
    space = ShapeSpace.of(context)
    history = list(play(strategy, generations=1).history)
    known = space.candidate([0.5] * 5, origin="initial")
    failed = space.candidate([0.6] * 5, origin="initial")
    trial = len(history)
    history.append(ScoredCandidate(trial=trial, generation=0, candidate=known, nll=2.0))
    history.append(ScoredCandidate(trial=trial + 1, generation=0, candidate=failed, nll=math.inf))

    monkeypatch.setattr(_Scripted, "points", (0.1, 0.5, 0.1, 0.6, 0.2, 0.3, 0.4))
    proposed = strategy.propose(1, history).bred
    np.testing.assert_allclose([space.point(candidate)[3] for candidate in proposed], [0.1, 0.2, 0.3], atol=1e-6)
    assert _Scripted.told == [(1, math.log(2.001)), (3, None)]

    # One that has nothing new any more ends the search.
    monkeypatch.setattr(_Scripted, "points", (0.5,))
    assert strategy.propose(1, history).is_last


def test_points_of_one_shape_are_one_candidate() -> None:
    """At a small scale many curves stay below 1 and are the same vector of ones."""
    context = _context(length=260, attention_factor=1.0)
    space = ShapeSpace.of(context)
    one, other = (space.candidate([unit, unit, 0.0, 0.0], origin="") for unit in (0.2, 0.8))
    assert one.scaling.factors == other.scaling.factors
    assert one.genes != other.genes
    search = play(make_strategy("optuna", {"sampler": "RandomSampler"}, context))
    bred = {scored.candidate.scaling.factors for scored in search.bred}
    assert len(bred) == len(search.bred) == 96
    assert RescaleFactors.identity(16) not in bred  # the baseline "none"


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def heard() -> Iterator[_Heard]:
    """What Optuna logs while its user wants to hear everything."""
    before, handler, logger = optuna.logging.get_verbosity(), _Heard(), logging.getLogger("optuna")
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    optuna.logging.set_verbosity(before)


@EVERY
def test_nothing_of_the_study_in_memory_is_heard(sampler: str, heard: _Heard) -> None:
    experimental = {"CmaEsSampler": {"lr_adapt": True}, "GPSampler": {"deterministic_objective": True}}
    # Their warnings would be errors: see pyproject.toml.
    arguments: dict[str, object] = {**_popsize(sampler, 4), **experimental.get(sampler, {})}
    play(_strategy(sampler, startup=10, batch=2, candidates=14, **arguments))
    assert heard.messages == []
    # Whoever has a study of their own still hears of it.
    assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    optuna.create_study()
    assert [message[:19] for message in heard.messages] == ["A new study created"]


def test_other_threads_are_heard_while_a_sampler_works() -> None:
    logger = logging.getLogger("optuna.storages._in_memory")

    def passes() -> None:
        record = logger.makeRecord(logger.name, logging.INFO, "", 0, "created", (), None)
        passed.append(bool(logger.filter(record)))

    passed: list[bool] = []
    with optuna_study._quiet():
        passes()
        other = threading.Thread(target=passes)
        other.start()
        other.join()
    passes()
    assert passed == [False, True, True]


def test_cma_es_is_refused_where_its_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidStrategy, match="CmaEsSampler needs the Python package cmaes"):
        _strategy("CmaEsSampler")
    assert _strategy("TPESampler").name == "optuna"


def test_defaults() -> None:
    assert OptunaSettings.from_arguments({}) == OptunaSettings(
        sampler="TPESampler", batch=8, startup=16, candidates=96, multivariate=True
    )
    strategy = make_strategy("optuna", {}, _context())
    assert (strategy.name, strategy.max_candidates, strategy.max_documents) == ("optuna", 96, 2)
    assert strategy.max_document_passes == (96 + 10) * 2  # eight baselines, two of them with their own factor too


@pytest.mark.parametrize(
    ("batch", "popsize", "expected"), [(8, None, 8), (6, None, 12), (1, None, 8), (9, None, 9), (4, 12, 12)]
)
def test_a_population_is_a_whole_number_of_batches(batch: int, popsize: int | None, expected: int) -> None:
    assert OptunaSettings(batch=batch, popsize=popsize).popsize_for(5) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampler": "NSGAIISampler"}, "sampler must be one of TPESampler, CmaEsSampler, GPSampler, RandomSampler"),
        ({"sampler": ["TPESampler"]}, "sampler must be one of"),
        ({"bach": 3}, "TPESampler's arguments are sampler, batch, startup, candidates, multivariate, but got 'bach'"),
        ({"seed": 3}, "but got 'seed'"),
        ({"popsize": 8}, "TPESampler's arguments are .* but got 'popsize'"),
        ({"sampler": "CmaEsSampler", "sigma0": 0.1}, "candidates, popsize, lr_adapt, but got 'sigma0'"),
        ({"sampler": "GPSampler", "multivariate": True}, "GPSampler's arguments are .* but got 'multivariate'"),
        ({"sampler": "RandomSampler", "popsize": 8}, "RandomSampler's arguments are .*, candidates, but got 'popsize'"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"batch": 2.0}, "batch must be a whole number"),
        ({"batch": True}, "batch must be a whole number"),
        ({"startup": 0}, "startup must be at least 1"),
        ({"startup": "16"}, "startup must be a whole number"),
        ({"candidates": 15}, "candidates must be at least startup, but got candidates=15, startup=16"),
        ({"candidates": None}, "candidates must be a whole number"),
        ({"multivariate": 1}, "multivariate must be true or false"),
        ({"sampler": "CmaEsSampler", "lr_adapt": "yes"}, "lr_adapt must be true or false"),
        (
            {"sampler": "CmaEsSampler", "popsize": 12},
            "a multiple of batch, but got popsize=12, batch=8",
        ),
        ({"sampler": "CmaEsSampler", "popsize": 3, "batch": 1}, "at least 4, but got popsize=3"),
        ({"sampler": "GPSampler", "deterministic_objective": 0}, "deterministic_objective must be true or false"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidStrategy, match=message):
        make_strategy("optuna", arguments, _context())


def test_settings_refuse_a_sampler_that_is_none() -> None:
    with pytest.raises(InvalidStrategy, match="sampler must be one of"):
        OptunaSettings(sampler="tpe")  # type: ignore[arg-type]


def _popsize(sampler: str, popsize: int) -> dict[str, object]:
    return {"popsize": popsize} if sampler == "CmaEsSampler" else {}


def _arguments(settings: OptunaSettings) -> dict[str, object]:
    names = ("sampler", "startup", "batch", "popsize", "candidates")
    return {name: getattr(settings, name) for name in names}


def _nll(scored: ScoredCandidate) -> float:
    return scored.nll
