"""The study: candidates rebuilt exactly, dense numbers, and finished trials that never change."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import optuna
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from optuna.storages import RDBStorage

from evaluation.scores.score import DocumentScore
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.published import PairFactors, PublishedScaling
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from ropewalk.wire.kinds import JobState
from search_space.candidates.candidate import Candidate, Gene
from search_space.candidates.step import Step
from storage.errors import LeaseLost, StudyConflict, TrialNotFound
from storage.postgres.database import Database
from storage.records import Lease, StoredScore, TrialState
from storage.study.record import StudyRecord
from storage.study.trial_codec import to_record, to_trial
from tests.helpers.accepting import accept_shown
from tests.helpers.leases import ClaimedJob, take_over
from tests.helpers.postgres import session_ending_at


def candidate(seed: float = 0.0, origin: str = "initial") -> Candidate:
    factors = RescaleFactors(tuple(1 + (index + seed) / 3 for index in range(16)))
    genes = (
        Gene(name="critical_pair", value=8, low=7, high=9, integer=True),
        Gene(name="factor_08", value=4.07, low=4.0, high=8.0, step=0.01),
        Gene(name="factor_09", value=4 + seed / 7, low=4.0, high=8.0),
    )
    return Candidate(scaling=Scaling(factors, 1.1), critical_pair=8, genes=genes, origin=origin, parents=(0, 3))


def score(trial: int, *, nats_per_token: float) -> StoredScore:
    made = DocumentScore(document_id=f"d{nats_per_token}", nats=8 * nats_per_token, tokens=8, exact=True)
    return StoredScore(split="search", trial=trial, score=made, worker="w")


@pytest.fixture
def lease(claimed_job: ClaimedJob) -> Lease:
    return claimed_job(JobState.searching)


@pytest.fixture
def study(database: Database, lease: Lease) -> StudyRecord:
    record = StudyRecord(database, lease.job_id, lease)
    record.create_if_missing(model="pocket", target_length=1024)
    return record


@given(
    values=st.lists(st.floats(min_value=1, max_value=1e9), min_size=1, max_size=8).map(sorted),
    attention=st.floats(min_value=0.01, max_value=10),
    steps=st.integers(0, 400),
)
def test_a_candidate_survives_the_trip_bit_for_bit(values: list[float], attention: float, steps: int) -> None:
    gene = Gene(name="g", value=4 + steps * 0.01, low=4.0, high=8.0, step=0.01)
    before = Candidate(scaling=Scaling(RescaleFactors(tuple(values)), attention), genes=(gene,), origin="x")
    after = to_record(to_trial(3, 1, before))
    assert after.candidate == before
    bits = [struct.pack("d", value) for value in before.scaling.factors.values]
    assert [struct.pack("d", value) for value in after.candidate.scaling.factors.values] == bits
    assert (after.generation, after.slot) == (3, 1)


def test_candidates_come_back_as_they_went_in(study: StudyRecord) -> None:
    numbers = study.add_candidates(0, [candidate(), candidate(0.1, "baseline:yarn")])
    assert numbers == (0, 1)
    assert study.add_candidates(1, [candidate(0.2)]) == (2,)
    trials = study.trials()
    assert [trial.candidate for trial in trials] == [candidate(), candidate(0.1, "baseline:yarn"), candidate(0.2)]
    assert [(t.number, t.generation, t.slot, t.state) for t in trials] == [
        (0, 0, 0, TrialState.waiting),
        (1, 0, 1, TrialState.waiting),
        (2, 1, 0, TrialState.waiting),
    ]


def test_a_trial_is_just_as_optunas_own_add_trial_makes_it(database: Database, study: StudyRecord) -> None:
    study.add_candidates(0, [candidate(), candidate(0.1)])
    (name,) = optuna.get_all_study_names(database.optuna)
    theirs = optuna.create_study(study_name="theirs", storage=database.optuna)
    theirs.add_trials([to_trial(0, 0, candidate()), to_trial(0, 1, candidate(0.1))])
    pairs = zip(optuna.load_study(study_name=name, storage=database.optuna).trials, theirs.trials, strict=True)
    for ours, their in pairs:
        ours._trial_id = their._trial_id
        assert ours == their
        assert list(ours.params) == list(their.params)


def test_a_generation_that_was_cut_short_is_completed(study: StudyRecord) -> None:
    whole = [candidate(slot / 10) for slot in range(4)]
    study.add_candidates(0, whole[:2])
    assert study.add_candidates(0, whole) == (0, 1, 2, 3)
    assert study.add_candidates(0, whole) == (0, 1, 2, 3)
    assert [trial.candidate for trial in study.trials()] == whole
    with pytest.raises(StudyConflict, match="slot 1 of generation 0"):
        study.add_candidates(0, [whole[0], whole[2]])


def test_the_life_of_a_trial_and_its_repetitions(study: StudyRecord) -> None:
    study.add_candidates(0, [candidate()])
    assert [study.start(0), study.start(0)] == [True, False]
    assert [study.finish(0, 0.1 + 0.2), study.finish(0, 0.1 + 0.2)] == [True, False]
    for again in (study.start, study.prune, lambda n: study.fail(n, "late")):
        assert not again(0)
    with pytest.raises(StudyConflict, match=r"trial 0 .* is complete with nll=0\.30000000000000004"):
        study.finish(0, 0.4)
    trial = study.trials()[0]
    assert (trial.state, trial.nll, trial.reason) == (TrialState.complete, 0.1 + 0.2, None)


def test_failed_and_pruned_trials(study: StudyRecord) -> None:
    study.add_candidates(0, [candidate(), candidate(0.1), candidate(0.2)])
    assert study.fail(0, "the scorer said no")
    assert study.prune(1)
    study.finish(2, math.inf)
    failed, pruned, infinite = study.trials()
    assert (failed.state, failed.nll, failed.reason) == (TrialState.failed, None, "the scorer said no")
    assert (pruned.state, pruned.nll) == (TrialState.pruned, None)
    assert infinite.nll == math.inf
    with pytest.raises(StudyConflict):
        study.finish(0, 1.0)
    with pytest.raises(ValueError, match="nan"):
        study.finish(1, math.nan)


def test_unknown_trials_and_studies(database: Database, study: StudyRecord) -> None:
    with pytest.raises(TrialNotFound, match="no trial 7"):
        study.start(7)
    assert StudyRecord(database, "srch_nothing").trials() == ()


def test_a_take_over_sees_everything(database: Database, study: StudyRecord, database_url: str) -> None:
    study.add_candidates(0, [candidate(), candidate(0.1)])
    study.finish(0, 1.5)
    other = Database(database_url)
    try:
        (search_id,) = optuna.get_all_study_names(other.optuna)
        assert StudyRecord(other, search_id).trials() == study.trials()
    finally:
        other.close()


def test_what_the_dashboard_sees(database: Database, study: StudyRecord, lease: Lease) -> None:
    study.create_if_missing(model="pocket", target_length=1024)  # again: nothing happens
    study.add_candidates(0, [candidate()])
    study.start(0)
    accept_shown(database, lease, score(0, nats_per_token=0.25), index=4)
    study.finish(0, 0.5)
    (name,) = optuna.get_all_study_names(database.optuna)
    shown = optuna.load_study(study_name=name, storage=database.optuna)
    assert shown.direction == optuna.study.StudyDirection.MINIMIZE
    assert shown.user_attrs == {"model": "pocket", "target_length": 1024}
    (trial,) = shown.trials
    assert trial.params == {"critical_pair": 8, "factor_08": 4.07, "factor_09": 4.0}
    assert trial.intermediate_values == {4: 0.25}
    assert trial.user_attrs["origin"] == "initial"
    assert trial.user_attrs["long_factor"] == list(candidate().scaling.factors.values)


def test_optuna_uses_our_bounded_pool(database: Database, study: StudyRecord) -> None:
    study.add_candidates(0, [candidate()])
    with database.engine.begin() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        others = connection.execute(sa.text(query)).scalar_one()
    assert others + 1 == database.engine.pool.checkedin()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "published",
    [None, PublishedScaling(rope_type="yarn", factors=PairFactors((1.0,) * 6 + (4.0,) * 6), attention_factor=1.14)],
)
def test_the_rope_that_the_study_was_told_of(
    database: Database, study: StudyRecord, published: PublishedScaling | None
) -> None:
    assert study.rope() is None
    rope = RopeConfig(
        rope_theta=10000.5,
        rotary_dim=24,
        original_max_position_embeddings=256,
        partial_rotary_factor=0.75,
        published=published,
    )
    study.create_if_missing(model="pocket", target_length=1024, rope=rope)
    assert study.rope() == rope
    assert StudyRecord(database, "srch_nothing").rope() is None


def test_system_attributes_are_replaced_by_prefix(database: Database, study: StudyRecord) -> None:
    (name,) = optuna.get_all_study_names(database.optuna)
    study_id = database.optuna.get_study_id_from_name(name)

    def found() -> dict[str, object]:
        return dict(database.optuna.get_study_system_attrs(study_id))

    before = found()
    database.optuna.set_study_system_attr(study_id, "plots:ours", "theirs")
    study.replace_system_attributes("plots:our_", {"plots:our_a": "1", "plots:our_b": "2"})
    study.replace_system_attributes("plots:our_", {"plots:our_a": "3"})
    assert found() == {**before, "plots:ours": "theirs", "plots:our_a": "3"}
    study.replace_system_attributes("plots:our_", {})
    assert found() == {**before, "plots:ours": "theirs"}, "an underscore is no wildcard, and others' stay"
    with pytest.raises(ValueError, match="must start with 'plots:our_'"):
        study.replace_system_attributes("plots:our_", {"plots:other": "1"})


def test_system_attributes_are_fenced(database: Database, study: StudyRecord) -> None:
    (name,) = optuna.get_all_study_names(database.optuna)
    before = database.optuna.get_study_system_attrs(database.optuna.get_study_id_from_name(name))
    take_over(database, name)
    with pytest.raises(LeaseLost):
        study.replace_system_attributes("plots:", {"plots:a": "1"})
    assert database.optuna.get_study_system_attrs(database.optuna.get_study_id_from_name(name)) == before


def test_trials_are_read_as_optuna_reads_them(database: Database, study: StudyRecord, lease: Lease) -> None:
    study.add_candidates(0, [candidate(seed) for seed in range(5)])
    study.start(0)
    accept_shown(database, lease, score(0, nats_per_token=0.5), index=3)
    study.finish(0, 0.25)
    study.start(1)
    study.finish(1, math.inf)
    study.fail(2, "broken")
    study.prune(3)
    storage = database.optuna_tables
    study_id = storage.get_study_id_from_name(study._search_id)
    for also, above in ((set(), -1), ({1, 2}, 3)):
        ours = storage._get_trials(study_id, None, also, above)
        assert ours == RDBStorage._get_trials(storage, study_id, None, also, above)
        assert ours


def test_studies_are_read_as_optuna_reads_them_without_what_is_our_own(database: Database, study: StudyRecord) -> None:
    study.replace_system_attributes("dashboard:", {"dashboard:plot_data:ropewalk-race": "{}"})
    study.replace_system_attributes("ropewalk:pictures", {"ropewalk:pictures": "large"})
    storage = database.optuna_tables
    (ours,), (theirs,) = storage.get_all_studies(), RDBStorage.get_all_studies(storage)
    assert "ropewalk:pictures" in theirs.system_attrs
    assert "dashboard:plot_data:ropewalk-race" in ours.system_attrs
    theirs.system_attrs = {k: v for k, v in theirs.system_attrs.items() if not k.startswith("ropewalk:")}
    assert vars(ours) == vars(theirs)


CALLS: dict[str, Callable[[StudyRecord, int], object]] = {
    "create_if_missing": lambda study, at: study.create_if_missing(model=f"pocket-{at}", target_length=1024),
    "mark_winner": lambda study, at: study.mark_winner(at),
    "add_candidates": lambda study, at: study.add_candidates(at + 1, [candidate(at / 100)]),
    "record_step": lambda study, at: study.record_step(at + 1, Step(candidates=(candidate(at / 100),), documents=(0,))),
    "recorded_steps": lambda study, at: study.recorded_steps(),
    "replace_system_attributes": lambda study, at: study.replace_system_attributes("plots:", {"plots:a": str(at)}),
    "start": lambda study, at: study.start(at),
    "finish": lambda study, at: study.finish(0, 0.5) or study.finish(at, 0.5),
    "fail": lambda study, at: study.fail(at, "broken"),
    "prune": lambda study, at: study.prune(at),
    "trials": lambda study, at: study.trials(),
    "trial_id": lambda study, at: study.trial_id(at),
    "rope": lambda study, at: study.rope(),
}
"""Every method of a study, so that it has something to do at each `at`."""

MOST_STATEMENTS = 40  # of any of them


def test_every_method_of_a_study_has_its_call() -> None:
    assert set(CALLS) == {name for name, value in vars(StudyRecord).items() if callable(value) and name[0] != "_"}


@pytest.mark.parametrize("name", CALLS)
def test_a_session_that_ends_at_any_statement_of_any_method_is_made_anew(
    database: Database, study: StudyRecord, lease: Lease, name: str
) -> None:
    study.add_candidates(0, [candidate(slot / 10) for slot in range(MOST_STATEMENTS)])
    study.finish(0, 0.5)
    for at in range(MOST_STATEMENTS):
        with session_ending_at(database, statement=at) as reached:
            CALLS[name](StudyRecord(database, lease.job_id, lease), at)  # a new one has looked nothing up yet
        if not reached():
            break
    assert 0 < at < MOST_STATEMENTS - 1, "sessions ended, at every statement"
