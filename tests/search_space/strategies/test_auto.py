"""What is special to the default strategy; the rest is in test_contract.py."""

from dataclasses import replace

import pytest

from ropewalk.rope.config import RopeConfig
from search_space.candidates.step import Budget
from search_space.errors import InvalidStrategy
from search_space.strategies.auto.settings import AutoSettings
from search_space.strategies.base import StrategyContext
from search_space.strategies.registry import make_strategy
from tests.helpers.breeding import play, smooth

pytestmark = pytest.mark.usefixtures("coarse_formulas")

ROPE = RopeConfig(rope_theta=10_000.0, rotary_dim=32, original_max_position_embeddings=256)
SMALL: dict[str, object] = {"startup": 6, "batch": 3, "generations": 3, "first_documents": 2, "leaders": 2}


def context(documents: int = 8) -> StrategyContext:
    return StrategyContext(rope=ROPE, target_length=1024, seed=1, attention_factor=None, documents=documents)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"startup": 0}, "startup must be at least 1, but got startup=0"),
        ({"batch": 2.5}, "batch must be a whole number"),
        ({"alpha": 1.0}, r"alpha must be in \(0, 1\), but got alpha=1.0"),
        ({"min_gain": -0.1}, "min_gain must be at least 0"),
        ({"surrogate": "oracle"}, "surrogate must be one of gp, none, but got surrogate='oracle'"),
        ({"race": "yes"}, "race must be true or false"),
        ({"race": False, "fresh_documents": True}, "fresh_documents must come with race"),
        ({"populaton": 3}, "auto's arguments are startup, .*, but got 'populaton'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidStrategy, match=message):
        make_strategy("auto", arguments, context())


def test_defaults_are_the_documented_ones() -> None:
    assert AutoSettings.from_arguments({}) == AutoSettings()


@pytest.mark.parametrize(
    ("budget", "shapes"),
    [
        (Budget(), 32),
        (Budget(max_document_passes=(10 + 20) * 4 + 3), 20),
        (Budget(max_tokens=(10 + 20) * 4 * 1024 + 1), 20),
        (Budget(max_candidates=20), 20),
        (Budget(max_document_passes=(10 + 16) * 4), 16),
    ],
)
def test_a_small_budget_begins_with_fewer_shapes(budget: Budget, shapes: int) -> None:
    first = make_strategy("auto", {}, replace(context(24), budget=budget)).propose(0, ())
    assert len(first.bred) == shapes
    with pytest.raises(InvalidStrategy, match=r"26 candidates on 4 documents each \(104\)"):
        make_strategy("auto", {}, replace(context(24), budget=Budget(max_document_passes=103)))


@pytest.mark.slow
def test_newcomers_start_on_few_documents_and_leaders_go_on() -> None:
    search = play(make_strategy("auto", {**SMALL, "min_gain": 0.0}, context()), smooth)
    assert search.steps[0].documents == (0, 1)
    counts = {scored.trial: len(scored.scores) for scored in search.history}
    assert max(counts.values()) == 8
    assert sum(count == 8 for count in counts.values()) < len(counts) / 2
    extended = {extension.trial for step in search.steps for extension in step.extend}
    baselines = {scored.trial for scored in search.history if scored.candidate.baseline_name is not None}
    assert extended & baselines, "the best baseline goes along"
    out = {trial for step in search.steps for trial in step.prune}
    assert all(scored.trial in out or len(scored.scores) == 8 for scored in search.history)


@pytest.mark.slow
def test_without_a_race_everyone_is_scored_on_everything() -> None:
    search = play(make_strategy("auto", {**SMALL, "race": False, "min_gain": 0.0}, context()), smooth)
    assert {len(scored.scores) for scored in search.history} == {8}
    assert not any(step.extend or step.prune for step in search.steps)


@pytest.mark.slow
def test_fresh_documents_are_the_generations_own_and_the_leader_sees_them() -> None:
    search = play(make_strategy("auto", {**SMALL, "fresh_documents": True, "min_gain": 0.0}, context()), smooth)
    for generation, step in enumerate(search.steps):
        if step.candidates:
            window = (2 * generation, 2 * generation + 1)
            assert step.documents == window
            seen = [{score.index for score in scored.scores} for scored in search.history]
            assert sum(set(window) <= indices for indices in seen) > len(step.candidates)


def test_a_search_with_nothing_to_gain_adds_no_shapes() -> None:
    search = play(make_strategy("auto", {**SMALL, "min_gain": 1e9}, context()), smooth)
    assert not any(step.candidates for step in search.steps[1:])
    assert search.steps[-1].is_last


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 8, 64])
def test_steps_are_made_for_so_many_workers_with_as_many_shapes_in_all(width: int) -> None:
    arguments = {"startup": 6, "batch": 4, "generations": 8, "first_documents": 2, "min_gain": 0.0, "width": width}
    strategy = make_strategy("auto", arguments, context(16))
    search = play(strategy, smooth)
    assert len(search.bred) <= strategy.max_candidates == 6 + 4 * 8
    full = [step for step in search.steps if step.candidates][:-1]  # the last may find no more shapes left
    assert full or width == 64
    for step in full:
        assert step.document_passes >= 2 * width
        assert step.document_passes % width in (0, width - 1), "one short where two documents do not fit"


@pytest.mark.slow
@pytest.mark.parametrize(("width", "min_gain"), [(8, 0.0), (16, 0.1), (64, 0.0), (128, 0.1), (64, 1e9)])
def test_every_step_but_the_last_fills_whole_rounds_of_the_workers(width: int, min_gain: float) -> None:
    """Those too that come after the last new shape, where leaders alone go on; and the bound stays one."""
    strategy = make_strategy("auto", {"width": width, "min_gain": min_gain}, context(24))
    passes = [step.document_passes for step in play(strategy, smooth).steps]
    assert passes[-1] == 0
    for count in passes[:-2]:
        assert -count % width <= AutoSettings().first_documents, "by at most a new shape too short"
        assert count + (-count % width) >= 2 * width
    assert 0 < passes[-2] <= max(2 * width, 300)
    assert sum(passes) <= strategy.max_document_passes


@pytest.mark.slow
def test_the_best_formulas_get_the_leaders_documents_and_stay() -> None:
    search = play(make_strategy("auto", {**SMALL, "anchors": 2, "min_gain": 0.0}, context()), smooth)
    on_all = [one for one in search.history if one.candidate.baseline_name is not None and len(one.scores) == 8]
    assert len(on_all) == 2
    assert not any(one.pruned for one in on_all)
