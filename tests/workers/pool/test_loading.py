"""How far a worker is with its model, heard in another process while it loads."""

from __future__ import annotations

from pathlib import Path

import ray

from evaluation.models.loading import tell_share
from tests.helpers.waiting import wait_until
from workers.pool.loading import LoadingNote, furthest


def load(note: LoadingNote, goes_on: Path) -> None:
    """As a backend does that is slow after a quarter."""
    with note.kept():
        tell_share(0.25)
        wait_until(goes_on.exists)


def test_a_note_is_there_as_long_as_its_worker_loads(ray_cluster: None, tmp_path: Path) -> None:
    notes = [LoadingNote() for _ in range(3)]
    assert furthest(notes) is None
    loading = ray.remote(load).remote(notes[1], tmp_path / "goes_on")
    wait_until(lambda: furthest(notes) is not None)
    assert (furthest(notes), furthest(notes[:1])) == (0.25, None)
    (tmp_path / "goes_on").touch()
    ray.get(loading)
    assert furthest(notes) is None
