"""The descent: what it finds, what it never leaves, what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from ropewalk.rope.config import RopeConfig
from ropewalk.rope.critical_pair import ten_period_critical_pair
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.baselines import baseline
from search_space.candidates.candidate import Candidate, ScoredCandidate
from search_space.candidates.cost import GRADIENT_COST, PassCost
from search_space.candidates.step import Budget, Extension, Step
from search_space.errors import InvalidStrategy
from search_space.strategies.base import StrategyContext
from search_space.strategies.gradient.descent import Region, adam_direction, point_of, tail_mean
from search_space.strategies.gradient.settings import GradientSettings, Plan
from search_space.strategies.gradient.strategy import AVERAGE, ITERATE, GradientStrategy
from search_space.strategies.registry import make_strategy
from tests.helpers.breeding import Search, play, smooth, smooth_slopes

POCKET = RopeConfig(rope_theta=1000.0, rotary_dim=32, original_max_position_embeddings=256)
DOCUMENTS = 6
FEW = {"steps": 8, "check_every": 4, "first_documents": 3}


def context(*, attention_factor: float | None = None, budget: Budget | None = None, seed: int = 0) -> StrategyContext:
    return StrategyContext(
        rope=POCKET,
        target_length=1024,
        seed=seed,
        attention_factor=attention_factor,
        documents=DOCUMENTS,
        budget=budget or Budget(),
    )


def strategy(arguments: Mapping[str, object] = FEW, **changes: object) -> GradientStrategy:
    made = make_strategy("gradient", arguments, context(**changes))  # type: ignore[arg-type]
    assert isinstance(made, GradientStrategy)
    return made


def of_origin(search: Search, origin: str) -> list[ScoredCandidate]:
    return [scored for scored in search.history if scored.candidate.origin == origin]


def start_of(search: Search) -> ScoredCandidate:
    """The trial that the first gradient is taken at."""
    (extension,) = search.steps[1].extend
    return search.history[extension.trial]


def mean(candidate: Candidate) -> float:
    return sum(smooth(candidate, document) for document in range(DOCUMENTS)) / DOCUMENTS


# -- what it finds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention_factor", [1.0, None])
def test_it_goes_on_where_the_best_baseline_ends(attention_factor: float | None) -> None:
    search = play(strategy({"steps": 60, "check_every": 20}, attention_factor=attention_factor))
    baselines = [scored.candidate for scored in search.history if scored.generation == 0]
    assert start_of(search).candidate == min(baselines, key=mean)
    averages = [mean(scored.candidate) for scored in of_origin(search, AVERAGE)]
    assert len(averages) == 3
    assert averages == sorted(averages, reverse=True)
    # Of what a vector with the start's fast pairs can gain, nearly all; the start itself is far from it.
    best, start = _best_possible(start_of(search).candidate, attention_factor), mean(start_of(search).candidate)
    assert averages[-1] - best < 0.05 * (start - best)


def _best_possible(start: Candidate, attention_factor: float | None) -> float:
    n, free = POCKET.num_pairs, ten_period_critical_pair(POCKET)
    best = [math.log(4.6) * min(i / (0.52 * n), 1.0) ** 1.9 for i in range(n)]
    fast = list(np.log(start.scaling.factors.values[:free]))
    floor = fast[-1]
    region = Region(start=start, free_from=free, attention=None)
    point = region.project(np.array([*fast, *(max(value, floor) for value in best[free:]), 0.0]))
    found = attention_factor or 1.12
    return mean(replace(start, scaling=replace(region.scaling(point), attention_factor=found)))


def test_shapes_may_start_it_too() -> None:
    search = play(strategy({**FEW, "startup": 32}, attention_factor=1.0))
    assert len(search.steps[0].bred) == 32
    assert start_of(search).candidate.origin == "initial"
    other = play(strategy({**FEW, "startup": 32}, attention_factor=1.0, seed=1))
    assert other.steps[0].bred != search.steps[0].bred


def test_the_start_is_chosen_on_the_first_documents_alone() -> None:
    """Later ones are scored on it, and not on the others: were they looked at, the start would change on the way."""

    def worse_later(candidate: Candidate, document: int) -> float:
        return smooth(candidate, document) + 100.0 * (document >= 3)

    search, plain = play(strategy(), worse_later), play(strategy())
    assert [step.extend for step in search.steps] == [step.extend for step in plain.steps]
    assert {scored.trial for scored in of_origin(search, ITERATE)} == {s.trial for s in of_origin(plain, ITERATE)}


# -- what it asks for -------------------------------------------------------------------------------------------------


def test_steps_of_a_search() -> None:
    search = play(strategy())
    start = start_of(search).trial
    kinds = [(one.gradients, [c.origin for c in one.candidates], one.documents, one.extend) for one in search.steps[1:]]
    fresh = [(DOCUMENTS + 2 * number, DOCUMENTS + 2 * number + 1) for number in range(8)]
    everything = tuple(range(DOCUMENTS))
    assert kinds == [
        (True, [], (), (Extension(trial=start, documents=fresh[0]),)),
        *((True, [ITERATE], documents, ()) for documents in fresh[1:4]),
        (False, [AVERAGE], everything, (Extension(trial=start, documents=(3, 4, 5)),)),
        *((True, [ITERATE], documents, ()) for documents in fresh[4:]),
        (False, [AVERAGE], everything, ()),
        (False, [], (), ()),
    ]
    first = search.steps[0]
    assert (first.documents, first.keep_open, first.gradients) == ((0, 1, 2), True, False)


def test_what_completes_was_scored_on_all_documents() -> None:
    search = play(strategy())
    pruned = [trial for step in search.steps for trial in step.prune]
    assert len(set(pruned)) == len(pruned)
    for scored in search.history:
        complete = set(range(DOCUMENTS)) <= {score.index for score in scored.scores}
        assert complete == (scored.trial not in pruned)
    for iterate in of_origin(search, ITERATE):
        assert iterate.trial in search.steps[iterate.generation + 1].prune


def test_a_gradient_costs_three_passes() -> None:
    plain = Step(
        candidates=(baseline("pi", POCKET, 512),), documents=(0, 1), extend=(Extension(trial=0, documents=(2,)),)
    )
    assert (plain.document_passes, replace(plain, gradients=True).document_passes) == (3, 9)
    assert GRADIENT_COST == 3


@pytest.mark.slow
@examples(max_examples=40)
@given(
    steps=st.integers(1, 30),
    batch=st.integers(1, 3),
    startup=st.integers(0, 9),
    check_every=st.integers(2, 9),
    first=st.integers(1, 9),
    passes=st.none() | st.integers(60, 300),
    candidates=st.none() | st.integers(10, 40),
)
def test_a_plan_says_to_the_pass_what_a_search_asks_for(
    steps: int, batch: int, startup: int, check_every: int, first: int, passes: int | None, candidates: int | None
) -> None:
    settings = GradientSettings(
        steps=steps, batch=batch, startup=startup, check_every=check_every, first_documents=first
    )
    budget = Budget(max_document_passes=passes, max_candidates=candidates)
    try:
        made = GradientStrategy(settings, context(budget=budget))
    except InvalidStrategy:
        return
    search = play(made)
    asked = {document for step in search.steps for document in step.documents}
    asked |= {document for step in search.steps for more in step.extend for document in more.documents}
    assert asked == set(range(made.max_documents))
    assert sum(step.document_passes for step in search.steps) == made.max_document_passes <= (passes or 10**9)
    assert sum(step.cost(PassCost(each=1024)) for step in search.steps) == made.max_tokens
    assert len(search.bred) == made.max_candidates <= (candidates or 10**9)


def test_a_budget_buys_the_longest_search_it_pays_for() -> None:
    settings = GradientSettings(steps=50, batch=2, check_every=4, first_documents=3)
    for limit in (100, 101, 150, 200):
        for budget in (Budget(max_document_passes=limit), Budget(max_tokens=limit * 1024)):
            within = context(budget=budget)
            plan = Plan.within(within, settings, baselines=10)
            assert plan.fits(within)
            assert not replace(plan, steps=plan.steps + 1).fits(within)


@pytest.mark.parametrize("budget", [Budget(max_candidates=4), Budget(max_document_passes=80)])
def test_a_budget_that_buys_no_gradient_is_refused_with_what_one_costs(budget: Budget) -> None:
    # 10 baselines and 4 shapes on 3 documents, a batch of 2, an average and the rest of the start on all.
    costs = "one step and one average: 5 candidates, 57 document passes and 58368 tokens"
    with pytest.raises(InvalidStrategy, match=costs):
        strategy({**FEW, "startup": 4}, budget=replace(budget, max_document_passes=50))


def test_patience_is_looked_at_when_an_average_is_known() -> None:
    steps = {"steps": 40, "check_every": 4}
    never_better = play(strategy(steps, budget=Budget(patience=1)), lambda candidate, document: 1.0)
    assert len(of_origin(never_better, AVERAGE)) == 2
    patient = play(strategy(steps, budget=Budget(patience=6)), lambda candidate, document: 1.0)
    assert len(of_origin(patient, AVERAGE)) == 3
    better = play(strategy(steps, budget=Budget(patience=1)))
    assert len(of_origin(better, AVERAGE)) > 2


# -- what it never leaves ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(seed=st.integers(0, 10_000), attention_factor=st.sampled_from([None, 1.1]))
def test_factors_stay_valid_whatever_the_gradients_say(seed: int, attention_factor: float | None) -> None:
    """`Candidate` itself refuses factors that fall or are below 1."""
    rng = np.random.default_rng(seed)

    def wild(candidate: Candidate, document: int) -> tuple[float, ...]:
        return tuple((rng.standard_cauchy(POCKET.num_pairs + 1) * 10.0 ** rng.integers(-9, 9)).tolist())

    made = strategy({**FEW, "learning_rate": 1.0}, attention_factor=attention_factor)
    search = play(made, slopes=wild)
    start, frozen = start_of(search).candidate, ten_period_critical_pair(POCKET)
    for scored in of_origin(search, ITERATE) + of_origin(search, AVERAGE):
        candidate = scored.candidate
        assert candidate.scaling.factors.values[:frozen] == start.scaling.factors.values[:frozen]
        assert 1.0 <= candidate.scaling.attention_factor <= 1.0 + 0.2 * math.log(4.0) + 1e-6
        assert attention_factor is None or candidate.scaling.attention_factor == attention_factor
        assert [gene.name for gene in candidate.genes] == ["attention_factor"] * (attention_factor is None)


@pytest.mark.slow
@given(st.lists(st.floats(-3.0, 3.0), min_size=9, max_size=9))
def test_the_projection_is_the_nearest_point(values: list[float]) -> None:
    rope = RopeConfig(rope_theta=1000.0, rotary_dim=16, original_max_position_embeddings=256)
    region = Region(start=baseline("ntk", rope, 1024), free_from=3, attention=(1.0, 1.3))
    point = np.array(values)
    point[:3] = point_of(region.start)[:3]
    found = region.project(point)
    assert (np.diff(found[:-1]) >= -1e-12).all()
    assert region.project(found) == pytest.approx(found, abs=1e-12)
    # No allowed direction leads nearer: towards any point of the region the distance grows.
    rng = np.random.default_rng(0)
    for other in (region.project(rng.normal(0.5, 1.0, 9)) for _ in range(20)):
        assert np.dot(point - found, other - found) <= 1e-9


def test_a_failed_iterate_is_stepped_back_from() -> None:
    """Halfway to the last that could be scored, and again, until one can be; averages leave it out."""

    def fails_above(candidate: Candidate, document: int) -> float:
        if candidate.origin == ITERATE:
            return math.inf if candidate.scaling.factors.values[-1] > 4.3 else 1.0
        return float(candidate.origin != "baseline:pi")

    def upwards(candidate: Candidate, document: int) -> tuple[float, ...]:
        return (-1.0,) * (POCKET.num_pairs + 1)

    made = strategy({"steps": 5, "learning_rate": 0.2, "first_documents": 3})
    search = play(made, fails_above, slopes=upwards)
    path, (average,) = of_origin(search, ITERATE), of_origin(search, AVERAGE)
    assert start_of(search).candidate.origin == "baseline:pi"
    assert [scored.failed for scored in path] == [True, True, False, True]
    # A step is 0.2 while gradients are all alike. Of the average: the third, and halfway between it and the fourth.
    moves = [math.log(one.candidate.scaling.factors.values[-1] / 4.0) for one in (*path, average)]
    assert moves == pytest.approx([0.2, 0.1, 0.05, 0.25, 0.1])


def test_a_document_with_more_answer_tokens_weighs_no_more_than_they_do() -> None:
    """A gradient is one of the mean per token: twice the tokens with twice the nats say the same."""
    search = play(strategy(), generations=4)
    last = search.history[-1]
    longer = tuple(
        replace(
            one, nats=2 * one.nats, tokens=2 * one.tokens, gradient=tuple(2 * slope for slope in one.gradient or ())
        )
        for one in last.scores
    )
    history = (*search.history[:-1], replace(last, scores=longer))
    found, expected = (
        strategy().propose(4, one).candidates[0].scaling.factors.values for one in (history, search.history)
    )
    assert found == pytest.approx(expected, abs=1e-8)
    half = (*search.history[:-1], replace(last, scores=(last.scores[0], longer[1])))
    assert strategy().propose(4, half).candidates[0].scaling.factors.values != pytest.approx(expected, abs=1e-6)


def test_nothing_that_could_be_scored_ends_the_search() -> None:
    search = play(strategy(), lambda candidate, document: math.inf)
    assert [step.is_last for step in search.steps] == [False, True]
    assert search.steps[1].prune == ()


def test_an_iterate_without_gradients_is_refused_by_trial() -> None:
    """Rather than followed nowhere: whoever scores it forgot them."""
    search = play(strategy(), generations=3)
    blind = [replace(one, scores=tuple(replace(s, gradient=None) for s in one.scores)) for one in search.history]
    with pytest.raises(InvalidStrategy, match=r"scored with gradients, but got none for trial 10"):
        strategy().propose(3, blind)


# -- how it goes on ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention_factor", [1.0, None])
def test_every_step_follows_from_the_history_alone(attention_factor: float | None) -> None:
    search = play(strategy(attention_factor=attention_factor))
    for generation, (step, history) in enumerate(zip(search.steps, search.histories, strict=True)):
        assert strategy(attention_factor=attention_factor).propose(generation, history[::-1]) == step


def test_adam_is_the_papers() -> None:
    rng = np.random.default_rng(0)
    gradients = list(rng.normal(size=(5, 3)))
    mean_, square = np.zeros(3), np.zeros(3)
    for time, gradient in enumerate(gradients, start=1):
        mean_, square = 0.9 * mean_ + 0.1 * gradient, 0.99 * square + 0.01 * gradient**2
        expected = -(mean_ / (1 - 0.9**time)) / np.sqrt(square / (1 - 0.99**time))
        assert adam_direction(gradients[:time]) == pytest.approx(expected)
    assert np.abs(adam_direction(gradients[:1])) == pytest.approx(np.ones(3))
    assert (adam_direction([np.zeros(3)]) == 0).all()


def test_an_average_is_over_the_later_half_of_the_path() -> None:
    points = [np.array([float(value)]) for value in range(7)]
    assert [float(tail_mean(points[:count])[0]) for count in (1, 2, 3, 4, 7)] == [0.0, 0.5, 1.5, 2.5, 4.5]


def test_averages_are_of_iterates_that_were_scored_and_the_next_one() -> None:
    search = play(strategy({"steps": 4, "check_every": 4, "first_documents": 3}))
    iterates, (average,) = of_origin(search, ITERATE), of_origin(search, AVERAGE)
    assert average.candidate.parents == (iterates[-1].trial,)
    # Two of four points: the last iterate, and where its gradient leads.
    last, mean_ = point_of(iterates[-1].candidate), point_of(average.candidate)
    before = point_of(iterates[-2].candidate)
    assert 0 < np.abs(mean_ - last).max() < np.abs(mean_ - before).max()


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, but got steps=0"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"startup": -1}, "startup must be at least 0"),
        ({"first_documents": 0}, "first_documents must be at least 1"),
        ({"check_every": 1}, "check_every must be at least 2"),
        ({"learning_rate": 0.0}, r"learning_rate must be in \(0, 1\], but got learning_rate=0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be a finite number"),
        ({"learning_rate": 1.5}, "learning_rate must be in"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"learning_rate": "fast"}, "learning_rate must be a number"),
        ({"momentum": 0.9}, "gradient's arguments are steps, batch, .*, but got 'momentum'"),
    ],
)
def test_settings_out_of_range(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidStrategy, match=message):
        make_strategy("gradient", arguments, context())


def test_every_setting_can_be_given() -> None:
    values: dict[str, object] = {
        "steps": 3,
        "batch": 4,
        "startup": 5,
        "first_documents": 6,
        "learning_rate": 0.5,
        "check_every": 7,
    }
    assert GradientSettings.from_arguments(values) == GradientSettings(**values)  # type: ignore[arg-type]


def test_slopes_of_the_objective_are_its_slopes() -> None:
    """The helper's own derivatives, by which all tests here descend."""
    plain = baseline("ntk", POCKET, 1024)
    factors = RescaleFactors(tuple(1.01 * value for value in plain.scaling.factors.values))
    candidate = replace(plain, scaling=Scaling(factors))
    found = smooth_slopes(candidate, 3)
    for pair in (0, 7, POCKET.num_pairs):
        moves = 1e-5 * np.eye(POCKET.num_pairs + 1)[pair]
        up, down = (_moved(candidate, move) for move in (moves, -moves))
        assert found[pair] == pytest.approx((smooth(up, 3) - smooth(down, 3)) / 2e-5, abs=1e-6)


def _moved(candidate: Candidate, move: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Candidate:
    values = candidate.scaling.factors.as_array() * np.exp(move[:-1])
    attention_factor = candidate.scaling.attention_factor * float(np.exp(move[-1]))
    return replace(candidate, scaling=Scaling(RescaleFactors(tuple(values)), attention_factor))
