"""`start_from`: a search that begins with another's best shapes, mapped to its own length and scored anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search_space.strategies.auto.strategy import START_ORIGIN
from service.door import Door
from service.errors import FactorsNotReady, InvalidSpec
from service.searches.starts import MOST_STARTS, starts_of
from service.specs.search import SearchSpec
from storage.errors import JobInUse, JobNotFound
from storage.postgres.database import Database
from tests.helpers.searches import RACING, SPEC, run_to_end


def spec_of(start_from: str | None = None, **changes: Any) -> SearchSpec:
    return SearchSpec.model_validate(RACING | changes | {"start_from": start_from})


def test_a_search_at_another_length_begins_with_the_best_shapes(database: Database, tmp_path: Path) -> None:
    source = run_to_end(database, tmp_path, RACING)
    starts = starts_of(spec_of(source.id), database)
    assert 1 <= len(starts) <= MOST_STARTS
    assert {start.scale for start in starts} == {2.0}

    door = Door(database)
    warm = run_to_end(database, tmp_path, {**RACING, "target_length": 1024, "seed": 9, "start_from": source.id})
    trials = door.trials(warm.id)
    own = [one for one in trials if one.candidate.origin == START_ORIGIN]
    assert len(own) == min(len(starts), 5)
    scored = {one.trial for one in door.scores(warm.id, split="search")}
    assert {one.number for one in own} <= scored, "they are scored anew"
    assert warm.state == "succeeded"
    door.delete("search", source.id, actor="a")  # what began with it has ended, and goes on to say so
    assert f'"start_from":"{source.id}"' in door.job("search", warm.id).spec_json


def test_what_cannot_be_begun_with_is_refused(database: Database, tmp_path: Path) -> None:
    door = Door(database)
    with pytest.raises(JobNotFound):
        door.submissions.submit_search(spec_of("srch_00"))
    queued = door.submissions.submit_search(spec_of())
    with pytest.raises(FactorsNotReady, match=f"ended with factors, but {queued.job.id} is queued"):
        door.submissions.submit_search(spec_of(queued.job.id))
    door.request("search", queued.job.id, "cancel")
    source = run_to_end(database, tmp_path, RACING)
    with pytest.raises(
        InvalidSpec, match="strategies that take starts, such as auto, but got strategy evolution"
    ) as no:
        door.submissions.submit_search(spec_of(source.id, strategy=SPEC["strategy"]))
    assert no.value.pointer == "/start_from"
    waiting = door.submissions.submit_search(spec_of(source.id))
    with pytest.raises(JobInUse, match=waiting.job.id):
        door.delete("search", source.id, actor="a")


def test_offline_there_is_no_such_search() -> None:
    from service.searches.prepare import prepare_search

    with pytest.raises(InvalidSpec, match="on the server that has srch_00"):
        prepare_search(spec_of("srch_00"))


def test_a_spec_without_it_is_stored_as_before_there_was_one() -> None:
    assert "start_from" not in spec_of().canonical_json()
    assert SearchSpec.model_validate_json(spec_of().canonical_json()) == spec_of()
    assert '"start_from":"srch_1"' in spec_of("srch_1").canonical_json()
