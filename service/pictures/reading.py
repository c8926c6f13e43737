"""The pictures of a search from the database: the same for the controller that runs it and for whoever asks."""

from dataclasses import replace

from evaluation.documents.document_id import DocumentId
from ropewalk.wire.pictures import BestSoFarPicture, RacePicture, SearchPictures
from ropewalk.wire.reports import SearchReport
from search_space.candidates.cost import NOTHING, Spent
from service.pictures.building import (
    build_best_so_far,
    build_factors,
    build_needles,
    build_race,
    choose_racers,
    leader_of,
)
from service.specs.search import SearchSpec
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import Job, TrialRecord
from storage.scores.history import ScoreHistory, TrialPasses
from storage.study.record import StudyRecord


class PictureReader:
    """Reads what the pictures of one search need: every trial, but the scores of those only that are drawn."""

    def __init__(self, database: Database, search_id: str) -> None:
        self._jobs = JobStore(database)
        self._search_id = search_id
        self._study = StudyRecord(database, search_id)
        self._search = ScoreHistory(database, search_id, "search")
        self._validation = ScoreHistory(database, search_id, "validation")

    def read(self, *, winner: int | None = None) -> SearchPictures:
        """The pictures as of now. `winner`: the trial that was chosen, where the job does not say so yet.

        Raises:
            JobNotFound: no job has this id.
        """
        job = self._jobs.get(self._search_id)
        spec = SearchSpec.model_validate_json(job.spec_json)
        trials, rope = self._study.trials(), self._study.rope()
        winner = _winner_of(job) if winner is None else winner
        leader = leader_of(trials, winner)
        best_so_far, race = self._from_search_scores(trials, leader)
        held_out = self._validation.scores(self._validation.passes(_tokens_of)) if winner is not None else {}
        return SearchPictures(
            search_id=self._search_id,
            model=spec.model,
            original_length=None if rope is None else rope.original_max_position_embeddings,
            target_length=spec.target_length,
            decided=winner is not None,
            factors=build_factors(trials, leader=leader, rope=rope, target_length=spec.target_length),
            best_so_far=best_so_far,
            race=race,
            needles=build_needles(trials, held_out, winner=winner),
        )

    def _from_search_scores(
        self, trials: tuple[TrialRecord, ...], leader: TrialRecord | None
    ) -> tuple[BestSoFarPicture, RacePicture]:
        passes = self._search.passes(_tokens_of)
        scored = [trial for trial in trials if trial.number in passes]
        racers = choose_racers(scored, leader=leader)
        scores = self._search.scores([trial.number for trial in racers])
        best_so_far = build_best_so_far(
            [_with_mean(trial, passes.get(trial.number)) for trial in trials],
            paid={trial: _spent(found) for trial, found in passes.items()},
            spent=max(map(_spent, passes.values()), key=lambda spent: spent.passes, default=NOTHING),
        )
        return best_so_far, build_race(racers, scores, leader=leader, candidates=len(scored))


def _tokens_of(document_id: str) -> int:
    return DocumentId.parse(document_id).tokens


def _spent(found: TrialPasses) -> Spent:
    return Spent(passes=found.passes, tokens=found.tokens)


def _with_mean(trial: TrialRecord, scored: TrialPasses | None) -> TrialRecord:
    """The trial; one that is out or not yet complete gets the mean of the documents that it was scored on."""
    return trial if trial.nll is not None or scored is None else replace(trial, nll=scored.nll)


def _winner_of(job: Job) -> int | None:
    """The trial that the job's factors come from."""
    if job.result_json is None:
        return None
    search = SearchReport.from_json(job.result_json).factors.search
    return None if search is None else search.trial
