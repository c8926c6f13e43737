"""An engine's process, and the scorer that owns it, with a stand-in for the engine; tests/vllm has the real one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from evaluation.models.loading import heard_by
from tests.helpers.engine_requests import GROUP, REQUEST
from tests.helpers.samples import documents
from tests.helpers.scorer_conformance import score
from workers.base import ScorerSettings
from workers.errors import ScorerUnavailable
from workers.vllm_backend import process as vllm_process
from workers.vllm_backend.messages import AnswerScore, GroupScored
from workers.vllm_backend.process import EngineLost, EngineProcess
from workers.vllm_backend.scorer import VllmScorer

Become = Callable[[str], None]


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Become:
    return lambda kind: monkeypatch.setattr(vllm_process, "_CHILD", ("tests.helpers.engine_stand_in", kind))


@pytest.fixture
def open_engine(become: Become) -> Iterator[Callable[[str], EngineProcess]]:
    opened: list[EngineProcess] = []

    def opener(kind: str) -> EngineProcess:
        become(kind)
        opened.append(EngineProcess(REQUEST))
        return opened[-1]

    yield opener
    for engine in opened:
        engine.end()


@pytest.fixture
def scorer_settings(tiny_model: Path) -> ScorerSettings:
    return ScorerSettings(
        model=str(tiny_model), backend="vllm", target_length=256, original_length=64, document_seconds=0.5
    )


def test_it_scores_and_ends(open_engine: Callable[[str], EngineProcess]) -> None:
    engine = open_engine("scores")
    assert engine.do(GROUP, seconds=30) == GroupScored(scores=(AnswerScore(nats=1.0, correct=1),))
    assert os.getpgid(engine.pid) == engine.pid != os.getpgid(0)
    engine.end()
    assert not psutil.pid_exists(engine.pid)


def test_how_far_it_has_loaded_is_heard_in_the_process_that_waits(open_engine: Callable[[str], EngineProcess]) -> None:
    heard: list[float] = []
    with heard_by(heard.append):
        engine = open_engine("loads")
    assert heard == [0.0, 1.0], "what comes soon after another is left out, and the end is not"
    assert engine.do(GROUP, seconds=30) == GroupScored(scores=(AnswerScore(nats=1.0, correct=1),))


def test_a_refusal_is_one_line(open_engine: Callable[[str], EngineProcess]) -> None:
    words = "^vLLM must be able to score a/model, but ValueError: heads must be of another size$"
    with pytest.raises(ScorerUnavailable, match=words):
        open_engine("refuses")


def test_an_end_while_loading_is_told_with_its_last_words(open_engine: Callable[[str], EngineProcess]) -> None:
    with pytest.raises(ScorerUnavailable, match=r"ended with exit code 3; its last words: out of words$"):
        open_engine("ends")


def test_one_that_breaks_is_lost_with_its_reason(open_engine: Callable[[str], EngineProcess]) -> None:
    engine = open_engine("breaks")
    with pytest.raises(EngineLost, match=r"^RuntimeError: device-side assert$"):
        engine.do(GROUP, seconds=30)
    assert not psutil.pid_exists(engine.pid)


def test_one_that_hangs_is_killed_with_its_ranks(open_engine: Callable[[str], EngineProcess]) -> None:
    engine = open_engine("has_ranks")
    (rank,) = psutil.Process(engine.pid).children()
    with pytest.raises(EngineLost, match=r"must reply within 0\.5 seconds, but did not: it hangs"):
        engine.do(GROUP, seconds=0.5)
    assert not psutil.pid_exists(engine.pid)
    _wait_until_gone(rank)


def test_one_that_hangs_at_its_end_is_killed(
    open_engine: Callable[[str], EngineProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine("hangs_up")
    monkeypatch.setattr(vllm_process, "_END_SECONDS", 0.2)
    with pytest.raises(EngineLost, match="has closed its connection and hangs"):
        engine.do(GROUP, seconds=30)
    assert not psutil.pid_exists(engine.pid)


def test_it_ends_with_its_parent_in_the_middle_of_a_step() -> None:
    program = (
        "import tests.helpers.engine_requests as t; import workers.vllm_backend.process as p;"
        "p._CHILD = ('tests.helpers.engine_stand_in', 'has_ranks'); e = p.EngineProcess(t.REQUEST);"
        "e._connection.send(t.GROUP); print(e.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        engine = psutil.Process(int(parent.stdout.readline()))
        group = [engine, *engine.children()]
        assert len(group) == 2
        os.kill(parent.pid, signal.SIGKILL)
        for process in group:
            _wait_until_gone(process)


def test_a_scorer_starts_its_engine_again_once(become: Become, scorer_settings: ScorerSettings) -> None:
    become("hangs")
    scorer = VllmScorer(scorer_settings)
    become("scores")
    assert [one.nats for one in score(scorer, documents(3))] == [1.0] * 3
    assert scorer.engine_starts == 2
    os.kill(scorer.engine_pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(EngineLost, match="signal SIGKILL"):
            score(scorer, documents(1))
    assert scorer.engine_starts == 2
    scorer.close()


def test_a_scorer_whose_engine_cannot_be_started_again(become: Become, scorer_settings: ScorerSettings) -> None:
    become("breaks")
    scorer = VllmScorer(scorer_settings)
    become("refuses")
    for _ in range(2):
        with pytest.raises(EngineLost, match=r"cannot be started again: vLLM must be able to score .* heads must be"):
            score(scorer, documents(1))
    scorer.close()


def _wait_until_gone(process: psutil.Process) -> None:
    deadline = time.monotonic() + 30
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)
