"""The figures in the Optuna study: small, replaced as a whole, and never the end of a search."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

from ropewalk.wire.kinds import JobState
from service.pictures.figures import FIGURES
from service.pictures.plots import PLOT_PREFIX, draw_dashboard, drawn_pictures, plot_attributes
from service.pictures.reading import PictureReader
from storage.errors import LeaseLost
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import Lease
from storage.study.record import StudyRecord
from tests.helpers.leases import take_over
from tests.helpers.stored_searches import TARGET_LENGTH, make_search, pictures_of, store

SPEC = json.dumps({"model": "pocket", "target_length": TARGET_LENGTH})
MAX_FIGURE_BYTES = 300_000
NAMES = {"ropewalk-factors", "ropewalk-best-so-far", "ropewalk-race", "ropewalk-needles"}


@pytest.fixture
def lease(database: Database) -> Lease:
    """Of a search that has just begun."""
    jobs = JobStore(database)
    jobs.create("search", SPEC)
    claimed = jobs.claim("test", 60)
    assert claimed is not None
    for state in (JobState.preparing, JobState.searching):
        jobs.transition(claimed[1], state)
    return claimed[1]


def drawn(database: Database, search_id: str) -> dict[str, dict[str, Any]]:
    """The figures as the dashboard reads them, by graph id."""
    study_id = database.optuna.get_study_id_from_name(search_id)
    found = get_plotly_graph_objects(database.optuna.get_study_system_attrs(study_id))
    return {name: json.loads(text) for name, text in found.items()}


def begun(database: Database, lease: Lease) -> StudyRecord:
    study = StudyRecord(database, lease.job_id, lease)
    study.create_if_missing(model="pocket", target_length=TARGET_LENGTH)
    return study


def test_a_search_without_trials_says_so(database: Database, lease: Lease) -> None:
    assert draw_dashboard(begun(database, lease), PictureReader(database, lease.job_id))
    figures = drawn(database, lease.job_id)
    assert set(figures) == NAMES - {"ropewalk-needles"}
    texts = [figure["layout"]["annotations"][0]["text"] for figure in figures.values()]
    assert texts == ["nothing is scored yet"] * 3


def test_figures_land_in_the_study_and_replace_the_earlier_ones(database: Database, lease: Lease) -> None:
    reader = PictureReader(database, lease.job_id)
    made = make_search(bred=60, documents=24, raced=True)
    study = store(made, database, lease)
    assert drawn_pictures(database, lease.job_id) is None
    assert draw_dashboard(study, reader, winner=made.best_bred.number)
    assert drawn_pictures(database, lease.job_id) == reader.read(winner=made.best_bred.number)
    first = _attributes(database, lease.job_id)
    assert set(drawn(database, lease.job_id)) == NAMES
    assert draw_dashboard(study, reader, winner=made.best_bred.number)
    assert _attributes(database, lease.job_id) == first, "the same search gives the same rows"
    assert draw_dashboard(study, reader)
    assert set(drawn(database, lease.job_id)) == NAMES - {"ropewalk-needles"}, "what is not drawn any more is gone"
    assert len(_attributes(database, lease.job_id)) < len(first)


def _attributes(database: Database, search_id: str) -> dict[str, Any]:
    study_id = database.optuna.get_study_id_from_name(search_id)
    found = database.optuna.get_study_system_attrs(study_id)
    return {key: value for key, value in found.items() if key.startswith(PLOT_PREFIX)}


def test_what_the_figures_show(database: Database, lease: Lease) -> None:
    made = make_search(bred=30, documents=8, raced=True)
    study = store(made, database, lease)
    draw_dashboard(study, PictureReader(database, lease.job_id), winner=made.best_bred.number)
    figures = drawn(database, lease.job_id)
    winner = f"winner: trial {made.best_bred.number}"
    factors = {trace["name"]: trace for trace in figures["ropewalk-factors"]["data"]}
    assert {"none", "yarn", "s = 4", "theoretical critical pair: 7", "ten-period critical pair: 3", winner} <= set(
        factors
    )
    assert factors[winner]["y"] == pytest.approx(made.best_bred.candidate.scaling.factors.values, rel=1e-3)
    points, steps = figures["ropewalk-best-so-far"]["data"][:2]
    assert sorted(trial for trial, _ in points["customdata"]) == [
        trial.number for trial in made.trials[8:]
    ]  # those that are out, too
    assert max(points["x"]) <= TARGET_LENGTH * sum(len(scores) for scores in made.search.values()) == steps["x"][-1]
    assert steps["y"][-1] == pytest.approx(made.best_bred.nll, rel=1e-3)
    race = {trace["name"]: trace for trace in figures["ropewalk-race"]["data"]}
    assert {"raced out", "candidates", "none", "yarn", winner} <= set(race)
    assert race[winner]["x"] == list(range(1, 9))
    assert max(x for x in race["raced out"]["x"] if x is not None) == 4
    (heat,) = figures["ropewalk-needles"]["data"]
    assert [len(row) for row in heat["z"]] == [2] * 5
    assert heat["x"][0].startswith(f"trial {made.best_bred.number}<br>winner, ")
    assert "% exact" in heat["text"][0][0]


@pytest.mark.parametrize(("bred", "documents"), [(1344, 24), (300, 400)])
def test_figures_of_a_large_search_stay_small(bred: int, documents: int) -> None:
    pictures = pictures_of(make_search(bred=bred, documents=documents, raced=False))
    sizes = {name: len(json.dumps(draw(pictures))) for name, draw in FIGURES.items()}
    assert all(1000 < size < MAX_FIGURE_BYTES for size in sizes.values()), sizes
    attributes = plot_attributes(pictures)
    assert all(key.startswith(PLOT_PREFIX) for key in attributes)
    assert sum(map(len, attributes.values())) == pytest.approx(sum(sizes.values()), rel=0.3), "no template comes along"
    race = FIGURES["race"](pictures)
    assert race is not None
    assert f"60 of {bred + 8} candidates drawn" in race["layout"]["title"]["subtitle"]["text"]


def test_a_picture_that_cannot_be_drawn_is_no_failure(
    database: Database, lease: Lease, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, reader = begun(database, lease), PictureReader(database, lease.job_id)

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(reader, "read", broken)
    with caplog.at_level(logging.WARNING, logger="ropewalk.dashboard"):
        assert not draw_dashboard(study, reader)
    assert "ZeroDivisionError: of all things" in caplog.text


def test_whoever_has_lost_the_lease_draws_nothing(database: Database, lease: Lease) -> None:
    study, reader = begun(database, lease), PictureReader(database, lease.job_id)
    take_over(database, lease.job_id)
    with pytest.raises(LeaseLost):
        draw_dashboard(study, reader)
    assert _attributes(database, lease.job_id) == {}


def test_an_unknown_search_is_logged_not_raised(database: Database, lease: Lease) -> None:
    assert not draw_dashboard(begun(database, lease), PictureReader(database, "srch_nothing"))
