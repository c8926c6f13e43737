"""An engine that hangs, dies, is closed, or loses its parent."""

from __future__ import annotations

import dataclasses
import os
import signal

import psutil
import pytest
import ray

from evaluation.models.loading import heard_by
from tests.helpers.samples import documents
from tests.helpers.scorer_conformance import score
from tests.helpers.waiting import wait_until
from workers.base import ScorerSettings
from workers.errors import ScorerClosed
from workers.pool.actor import start_actor
from workers.pool.loading import LoadingNote
from workers.vllm_backend.process import EngineLost
from workers.vllm_backend.scorer import VllmScorer


def test_a_scorers_life(phi3_scorer: VllmScorer, phi3_settings: ScorerSettings) -> None:
    """It agrees with another one; its engine hangs and is started again; the second engine dies, which is too much."""
    heard: list[float] = []
    with heard_by(heard.append):
        scorer = VllmScorer(dataclasses.replace(phi3_settings, document_seconds=5.0))
    assert (heard[0], heard[-1]) == (0.0, 1.0), "of the model's tensors"
    expected = score(phi3_scorer, documents(2))
    assert score(scorer, documents(2)) == expected
    assert scorer.info == phi3_scorer.info

    first = scorer.engine_pid
    os.kill(first, signal.SIGSTOP)
    assert score(scorer, documents(2)) == expected
    assert scorer.engine_starts == 2
    assert not psutil.pid_exists(first)

    os.kill(scorer.engine_pid, signal.SIGKILL)
    for _ in range(2):  # from then on
        with pytest.raises(EngineLost, match="the engine's process ended with signal SIGKILL"):
            score(scorer, documents(2))
    assert scorer.engine_starts == 2

    scorer.close()
    scorer.close()
    assert scorer.info == phi3_scorer.info
    with pytest.raises(ScorerClosed):
        score(scorer, documents(1))


@pytest.mark.usefixtures("ray_cluster")
def test_killing_the_actor_leaves_no_engine(phi3_settings: ScorerSettings) -> None:
    actor = start_actor(phi3_settings, gpus=0)
    identity = ray.get(actor.open.remote(LoadingNote()))
    assert identity.info.backend == "vllm"
    below = psutil.Process(identity.pid).children(recursive=True)
    engines = [process for process in below if "workers.vllm_backend.child" in process.cmdline()]
    assert len(engines) == 1
    os.kill(identity.pid, signal.SIGKILL)
    wait_until(lambda: not any(process.is_running() for process in below))
