"""The rounds that choose a winner."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.scores.score import DocumentScore
from ropewalk.rope.config import RopeConfig
from search_space.candidates.candidate import DocumentNats, ScoredCandidate
from search_space.strategies.base import StrategyContext
from search_space.strategies.seeds import seed_baselines
from service.searches.validation import Entrant, Outcome, Round, choose_finalists, most_passes, next_round, outcome

NOBODY: frozenset[int] = frozenset()


def entrants(baselines: int, bred: int) -> tuple[Entrant, ...]:
    return tuple(Entrant(trial=trial, is_baseline=trial < baselines) for trial in range(baselines + bred))


def documents(means: Mapping[int, float], *, noise: float, count: int, seed: int) -> dict[int, list[DocumentScore]]:
    """Scores of every trial on every document: a document's own difficulty, and noise of the pair."""
    rng = np.random.default_rng(seed)
    difficulty = rng.exponential(0.3, count)
    return {
        trial: [
            DocumentScore(document_id=f"d{j}", nats=float(7 * max(mean + difficulty[j] + e, 0.0)), tokens=7, exact=True)
            for j, e in enumerate(rng.normal(0.0, noise, count))
        ]
        for trial, mean in means.items()
    }


def play(
    field: Sequence[Entrant], everything: Mapping[int, Sequence[DocumentScore]], *, total: int
) -> tuple[list[Round], Outcome, int]:
    scores: dict[int, list[DocumentScore]] = {one.trial: [] for one in field}
    rounds: list[Round] = []
    passes = 0
    while (current := next_round(field, scores, documents=total, failed=NOBODY, seed=0)) is not None:
        rounds.append(current)
        assert len(rounds) < 30
        for trial in current.trials:
            missing = everything[trial][len(scores[trial]) : current.documents]
            passes += len(missing)
            scores[trial] += missing
    found = outcome(field, scores, failed=NOBODY, seed=0)
    assert found is not None
    return rounds, found, passes


@pytest.mark.parametrize("skipped", [0, 40])
def test_every_baseline_is_a_finalist_whatever_skipped_documents_say_of_it(skipped: int) -> None:
    """The one that is best on full documents may look hopeless on skipped ones."""
    rope = RopeConfig(rope_theta=10_000.0, rotary_dim=32, original_max_position_embeddings=256)
    context = StrategyContext(rope=rope, target_length=1024, seed=0, attention_factor=None)
    history = [
        ScoredCandidate(
            trial=trial,
            generation=0,
            candidate=candidate,
            nll=0.1 + trial,
            scores=tuple(
                DocumentNats(index=index, nats=7 * (0.1 + trial + index / 100), tokens=7, skipped=index >= 4)
                for index in range(4 + skipped)
            ),
        )
        for trial, candidate in enumerate(seed_baselines(context))
    ]
    assert choose_finalists(history) == tuple(history)


def test_a_clear_winner_is_found_early() -> None:
    field = entrants(3, 4)
    means = {0: 1.0, 1: 2.0, 2: 3.0, 3: 0.1, 4: 0.5, 5: 0.6, 6: 0.7}
    rounds, found, passes = play(field, documents(means, noise=0.05, count=640, seed=1), total=640)
    assert found.winner == found.best_bred == 3
    assert found.best_baseline == 0
    assert found.difference is not None
    assert found.difference.high < 0.0
    assert rounds[0] == Round(documents=8, trials=(0, 1, 2, 3, 4, 5, 6))
    assert set(rounds[1].trials) == {0, 3}  # the others were beaten on all of the first documents
    assert rounds[-1].documents == 64  # separated: 640 are not needed
    assert passes < 7 * 8 + 2 * 64


def test_what_is_within_noise_of_the_best_baseline_does_not_win() -> None:
    field = entrants(1, 1)
    rounds, found, _ = play(field, documents({0: 0.5, 1: 0.499}, noise=0.2, count=80, seed=3), total=80)
    assert rounds[-1].documents == 80
    assert found.best_bred == 1
    assert found.winner == found.best_baseline == 0


def test_bred_finalists_are_halved() -> None:
    field = entrants(1, 8)
    rounds, _, _ = play(field, documents(dict.fromkeys(range(9), 0.5), noise=0.01, count=80, seed=5), total=80)
    bred = [sum(trial >= 1 for trial in one.trials) for one in rounds]
    assert [one.documents for one in rounds] == [8, 16, 32, 64, 80]
    assert bred[0] == 8
    assert bred[2] <= 4
    assert bred[3] <= 2
    assert bred[4] == 1


def test_baselines_are_halved_later_than_bred_ones() -> None:
    field = entrants(8, 1)
    rounds, _, _ = play(field, documents(dict.fromkeys(range(9), 0.5), noise=0.01, count=320, seed=5), total=320)
    baselines = {one.documents: sum(trial < 8 for trial in one.trials) for one in rounds}
    assert list(baselines) == [8, 16, 32, 64, 128, 256, 320]
    assert baselines[64] > 4  # nothing but chance tells them apart, and half of them are not dropped for it yet
    assert (baselines[128] <= 4, baselines[256] <= 2, baselines[320]) == (True, True, 1)


def test_twice_the_documents_are_announced_for_few_more_passes() -> None:
    # Eleven baselines and eight shapes: half of what is left goes on to each of the last rounds.
    assert most_passes(19, 11, 160) == 19 * 16 + 15 * 16 + 13 * 32 + 7 * 64 + 4 * 32
    assert most_passes(19, 11, 320) == 19 * 16 + 15 * 16 + 13 * 32 + 7 * 64 + 4 * 128 + 3 * 64


def test_the_best_baseline_stays_to_be_measured_against() -> None:
    field = entrants(2, 2)
    rounds, found, _ = play(field, documents({0: 2.0, 1: 3.0, 2: 0.1, 3: 0.11}, noise=0.02, count=80, seed=2), total=80)
    assert all(0 in one.trials for one in rounds)
    assert found.best_baseline == 0


def test_failed_ones_take_no_part() -> None:
    field = entrants(1, 2)
    everything = documents({0: 0.5, 1: 0.1, 2: 0.2}, noise=0.01, count=8, seed=0)
    first = next_round(field, {}, documents=8, failed=frozenset({1}), seed=0)
    assert first == Round(documents=8, trials=(0, 2))
    found = outcome(field, {0: everything[0], 2: everything[2]}, failed=frozenset({1}), seed=0)
    assert found is not None
    assert found.best_bred == 2
    assert outcome(field, {1: everything[1]}, failed=frozenset({0}), seed=0) is None
    alone = outcome(field, {0: everything[0]}, failed=frozenset({1, 2}), seed=0)
    assert alone == Outcome(best_baseline=0, best_bred=None, difference=None)
    assert alone.winner == 0


@settings(max_examples=30, deadline=None)
@given(
    baselines=st.integers(1, 4),
    bred=st.integers(0, 6),
    total=st.integers(1, 90),
    seed=st.integers(0, 1000),
    noise=st.floats(0.0, 0.5),
)
def test_rounds_grow_end_and_cost_no_more_than_announced(
    baselines: int, bred: int, total: int, seed: int, noise: float
) -> None:
    field = entrants(baselines, bred)
    means = {one.trial: float(np.random.default_rng(seed + one.trial).random()) for one in field}
    rounds, found, passes = play(field, documents(means, noise=noise, count=total, seed=seed), total=total)
    sizes = [one.documents for one in rounds]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] <= total
    assert all(set(later.trials) <= set(earlier.trials) for earlier, later in pairwise(rounds))
    assert passes <= most_passes(len(field), baselines, total)
    assert found.winner in {found.best_baseline, found.best_bred}


@pytest.mark.parametrize("total", [8, 40])
def test_one_baseline_alone_needs_one_round(total: int) -> None:
    rounds, found, _ = play(entrants(1, 0), documents({0: 0.5}, noise=0.1, count=total, seed=0), total=total)
    assert len(rounds) == 1
    assert found.winner == 0
