"""The example strategy as a user has it: its own file, metadata on the path, and a server that is told nothing."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from examples import add_a_strategy
from ropewalk.client.errors import ApiError
from ropewalk.rope.config import RopeConfig
from ropewalk.wire.reports import SearchReport
from search_space.strategies.base import StrategyContext
from tests.helpers.breeding import play, smooth
from tests.helpers.paths import ROOT, STARTUP
from tests.helpers.server_process import SEARCH_SECONDS, START_SECONDS, operator_of, own_directory, server, wait_for
from tests.helpers.waiting import free_port

__all__ = ["own_directory"]

SPEC: dict[str, Any] = {
    "model": "pocket",
    "target_length": 384,
    "objective": {"documents": 4, "validation_documents": 4},
    "strategy": {"name": "random", "candidates": 6},
    "scorer": {"backend": "analytic"},
}


def _prepare(place: Path) -> Path:
    """The docstring's own first two commands, run in a copy of the folder."""
    (place / "examples").mkdir()
    (place / "examples" / "add_a_strategy.py").write_bytes((ROOT / "examples" / "add_a_strategy.py").read_bytes())
    commands = re.findall(r"^    ((?:mkdir|printf) .+)$", str(add_a_strategy.__doc__), flags=re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        subprocess.run(command, shell=True, cwd=place, check=True)
    assert "PYTHONPATH=mine .venv/bin/ropewalk serve" in str(add_a_strategy.__doc__)
    return place / "mine"


def test_it_proposes_the_same_step_for_the_same_seed() -> None:
    rope = RopeConfig(rope_theta=1000.0, rotary_dim=32, original_max_position_embeddings=256)
    context = StrategyContext(rope=rope, target_length=1024, seed=3, attention_factor=None, documents=2)
    settings = add_a_strategy.RandomSettings(candidates=5)
    search = play(add_a_strategy.RandomSearch(settings, context), smooth)
    assert len(search.bred) == 5
    assert add_a_strategy.RandomSearch(settings, context).propose(0, ()) == search.steps[0]


@pytest.mark.timeout(600)
def test_a_server_runs_a_search_with_it(own_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(_prepare(own_directory)), str(STARTUP), str(ROOT)]))
    home, port, log = own_directory / "home", free_port(), own_directory / "server.log"
    with server(home, port), operator_of(home, port) as client:
        wait_for(lambda: client.ready() is not None, START_SECONDS, log)
        with pytest.raises(ApiError, match="random's arguments are candidates, but got 'population'"):
            client.submit({**SPEC, "strategy": {"name": "random", "population": 6}})
        search = client.submit(SPEC)
        wait_for(lambda: client.get(search.id).is_final, SEARCH_SECONDS, log)
        done = client.get(search.id)
        assert done.state == "succeeded", done.error
        assert done.report(SearchReport).factors.target_length == 384
        origins = [trial.origin for trial in client.trials(search.id)]
        assert origins.count("random") == 6
