"""A search as it might have gone, without a model: trials that race over documents, and the scores they left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.documents.document_id import DocumentId
from evaluation.documents.needle import Split
from evaluation.scores.score import DocumentScore, summarise
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from ropewalk.wire.pictures import SearchPictures
from search_space.candidates.baselines import baselines
from search_space.candidates.candidate import Candidate
from search_space.candidates.cost import Spent
from service.pictures.building import build_best_so_far, build_factors, build_needles, build_race, choose_racers
from storage.postgres.database import Database
from storage.records import Lease, StoredScore, TrialRecord, TrialState
from storage.study.record import StudyRecord
from tests.helpers.accepting import accept

ROPE = RopeConfig(rope_theta=10000.0, rotary_dim=32, original_max_position_embeddings=256)
TARGET_LENGTH = 1024
BASELINES = baselines(ROPE, TARGET_LENGTH)
TOKENS = 7  # answer tokens of every document


@dataclass(frozen=True, kw_only=True)
class MadeSearch:
    """Trials by number, and their scores by trial."""

    trials: tuple[TrialRecord, ...]
    search: Mapping[int, tuple[DocumentScore, ...]]
    validation: Mapping[int, tuple[DocumentScore, ...]]

    @property
    def best_bred(self) -> TrialRecord:
        """By search NLL."""
        complete = [trial for trial in self.trials if trial.candidate.baseline_name is None and trial.nll is not None]
        return min(complete, key=lambda trial: trial.nll or 0.0)


def make_search(*, bred: int, documents: int, validation_documents: int = 40, raced: bool = False) -> MadeSearch:
    """The baselines and `bred` candidates that get better with time; `raced`: two of three are out half-way."""
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0.0, 0.8, size=max(documents, validation_documents))
    candidates = [*BASELINES, *(_bred(number, rng) for number in range(bred))]
    skill = [*rng.normal(-1.5, 0.8, size=len(BASELINES)), *(rng.normal(-2.2, 0.5, bred) - np.linspace(0, 0.8, bred))]
    trials: list[TrialRecord] = []
    search: dict[int, tuple[DocumentScore, ...]] = {}
    for number, candidate in enumerate(candidates):
        out = raced and candidate.baseline_name is None and number % 3 != 0
        indices = sorted(rng.choice(documents, size=max(1, documents // 2), replace=False)) if out else range(documents)
        search[number] = scores_of("search", indices, np.exp(skill[number] + difficulty), rng)
        state = TrialState.pruned if out else TrialState.complete
        nll = None if out else summarise(search[number]).nll
        trials.append(trial_of(number, candidate, state=state, nll=nll))
    complete = [trial for trial in trials if trial.nll is not None]
    complete.sort(key=lambda trial: (trial.candidate.baseline_name is None, trial.nll))
    finalists = [trial.number for trial in complete[: len(BASELINES) + 8]]
    validation = {
        number: scores_of("validation", range(validation_documents), np.exp(skill[number] + difficulty), rng)
        for number in finalists
    }
    return MadeSearch(trials=tuple(trials), search=search, validation=validation)


def trial_of(
    number: int, candidate: Candidate, *, state: TrialState = TrialState.complete, nll: float | None = None
) -> TrialRecord:
    """A trial of generation 0 in the slot of its number."""
    return TrialRecord(number=number, generation=0, slot=number, candidate=candidate, state=state, nll=nll)


def scores_of(
    split: Split,
    indices: Iterable[int],
    nats_per_token: np.ndarray[tuple[int], np.dtype[np.float64]],
    rng: np.random.Generator,
) -> tuple[DocumentScore, ...]:
    """A score of each document in `indices`, a tenth of noise on it."""
    return tuple(
        score(split, int(index), float(TOKENS * nats_per_token[index] * np.exp(rng.normal(0.0, 0.1))))
        for index in indices
    )


def score(split: Split, index: int, nats: float, *, tokens: int = TOKENS) -> DocumentScore:
    """Exact where a token costs less than 0.2 nats."""
    name = str(DocumentId(split=split, seed=0, target_length=TARGET_LENGTH, index=index))
    return DocumentScore(document_id=name, nats=nats, tokens=tokens, exact=nats < 0.2 * tokens)


def _bred(number: int, rng: np.random.Generator) -> Candidate:
    pair = int(rng.integers(6, 10))
    tail = np.sort(rng.uniform(4.0, 8.0, size=ROPE.num_pairs - pair))
    head = tail[0] ** (np.arange(pair) / pair)
    factors = RescaleFactors(tuple(np.round(np.concatenate([head, tail]), 6).tolist()))
    return Candidate(scaling=Scaling(factors), critical_pair=pair, origin="mutation")


def spent(passes: int) -> Spent:
    """Full passes at the made search's length."""
    return Spent(passes=passes, tokens=passes * TARGET_LENGTH)


def pictures_of(made: MadeSearch) -> SearchPictures:
    """As a controller would read them once the best bred candidate has won; no database."""
    leader = made.best_bred
    costs = [len(scores) for scores in made.search.values()]
    racers = choose_racers(made.trials, leader=leader)
    return SearchPictures(
        search_id="srch_made",
        model="pocket",
        original_length=ROPE.original_max_position_embeddings,
        target_length=TARGET_LENGTH,
        decided=True,
        factors=build_factors(made.trials, leader=leader, rope=ROPE, target_length=TARGET_LENGTH),
        best_so_far=build_best_so_far(
            made.trials, paid=dict(enumerate(map(spent, np.cumsum(costs).tolist()))), spent=spent(sum(costs))
        ),
        race=build_race(racers, made.search, leader=leader, candidates=len(made.search)),
        needles=build_needles(made.trials, made.validation, winner=leader.number),
    )


def store(made: MadeSearch, database: Database, lease: Lease) -> StudyRecord:
    """Write the search into a database, as the controller that holds the lease would."""
    study = StudyRecord(database, lease.job_id, lease)
    study.create_if_missing(model="pocket", target_length=TARGET_LENGTH, rope=ROPE)
    study.add_candidates(0, [trial.candidate for trial in made.trials])
    for trial in made.trials:
        _store_scores(database, lease, "search", trial.number, made.search[trial.number])
        if trial.nll is not None:
            study.finish(trial.number, trial.nll)
        elif trial.state is TrialState.pruned:
            study.prune(trial.number)
    for number, scores in made.validation.items():
        _store_scores(database, lease, "validation", number, scores)
    return study


def _store_scores(database: Database, lease: Lease, split: Split, trial: int, scores: Iterable[DocumentScore]) -> None:
    rows = [StoredScore(split=split, trial=trial, score=each, worker="test:1") for each in scores]
    accept(database, lease, *rows)
