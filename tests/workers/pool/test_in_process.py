"""The pool of one process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ropewalk.rope.scaling import Scaling
from tests.helpers.samples import IDENTITY, STRETCHED, documents
from workers.base import ScorerSettings, ScoringTask
from workers.factory import make_scorer
from workers.pool.in_process import InProcessPool


class Stopped(Exception):
    """What a check raises."""


def test_scores_are_the_scorers(analytic_settings: ScorerSettings) -> None:
    scaling = Scaling(STRETCHED, 1.1)
    tasks = [ScoringTask(key=one.id, scaling=scaling, document=one) for one in documents(3)]
    with InProcessPool(analytic_settings) as pool:
        outcomes = list(pool.run(tasks))
        info = pool.scorer()
    scorer = make_scorer(analytic_settings)
    assert tuple(one.score for one in outcomes) == scorer.score(scaling, documents(3))
    assert [one.task_key for one in outcomes] == [task.key for task in tasks]
    assert {(one.error, one.attempts, one.scorer) for one in outcomes} == {(None, 1, info.fingerprint())}


def test_a_candidates_own_fault_is_a_value(analytic_settings: ScorerSettings) -> None:
    half = Scaling(type(IDENTITY)(IDENTITY.values[:4]))
    (document,) = documents(1)
    given = {"bad": half, "good": Scaling(IDENTITY)}
    tasks = [ScoringTask(key=key, scaling=scaling, document=document) for key, scaling in given.items()]
    with InProcessPool(analytic_settings) as pool:
        bad, good = pool.run(tasks)
    assert bad.score is None
    assert "one value per pair" in (bad.error or "")
    assert good.score is not None


def test_a_check_ends_the_run(analytic_settings: ScorerSettings) -> None:
    def check() -> None:
        raise Stopped

    (document,) = documents(1)
    task = ScoringTask(key="1", scaling=Scaling(IDENTITY), document=document)
    with InProcessPool(analytic_settings) as pool:
        with pytest.raises(Stopped):
            list(pool.run([task], check=check))
        with pytest.raises(Stopped):
            pool.scorer(check=check)


def test_it_needs_no_ray() -> None:
    code = "import sys, workers.pool.in_process; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
