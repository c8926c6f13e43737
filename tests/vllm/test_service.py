"""A search and an evaluation over REST whose workers run vLLM: the real server, PostgreSQL, Ray and engine."""

from pathlib import Path
from typing import Any

import psutil
import pytest

from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.evaluation import EvaluationReport
from ropewalk.wire.reports import SearchReport
from tests.helpers.server_process import START_SECONDS, operator_of, own_directory, server, wait_for
from tests.helpers.waiting import free_port

__all__ = ["own_directory"]

SPEC: dict[str, Any] = {
    "model": "pocket",
    "target_length": 384,
    "objective": {"documents": 2, "validation_documents": 2},
    "strategy": {"name": "evolution", "population": 4, "iterations": 1, "parents": 2, "mutations": 2, "crossovers": 1},
    "scorer": {"backend": "vllm"},
}
EVALUATION: dict[str, Any] = {
    "model": "pocket",
    "target_length": 512,
    "lengths": [512],
    "documents": 2,
    "tasks": ["niah_single_1"],
    "ruler_documents": 2,
    "text_windows": 2,
    "baselines": False,
}
SEARCH_SECONDS = 400.0  # an engine starts in it


@pytest.mark.timeout(600)
def test_a_search_and_an_evaluation_finish_and_leave_no_engine(own_directory: Path) -> None:
    home, port = own_directory / "home", free_port()
    log = own_directory / "server.log"
    with server(home, port) as process, operator_of(home, port) as client:
        wait_for(lambda: client.ready() is not None, START_SECONDS, log)
        search = client.submit(SPEC)
        wait_for(lambda: client.get(search.id).is_final, SEARCH_SECONDS, log)
        search = client.get(search.id)
        assert search.state == "succeeded", search.error
        assert "held-out" in search.report(SearchReport).statement
        assert FactorFile.from_json(client.export(search.id)).target_length == 384
        refused = {**SPEC, "strategy": {"name": "gradient"}}
        with pytest.raises(Exception, match="needs a scorer that differentiates"):
            client.submit(refused)
        evaluated = {}
        for backend in ("vllm", "transformers"):
            job = client.submit_evaluation({**EVALUATION, "scorer": {"backend": backend}})
            wait_for(lambda: client.get(job.id).is_final, SEARCH_SECONDS, log)  # noqa: B023  # asked in this turn alone
            evaluated[backend] = client.get(job.id)
            assert evaluated[backend].state == "succeeded", evaluated[backend].error
        _compare(*(one.report(EvaluationReport) for one in evaluated.values()))
        below = psutil.Process(process.pid).children(recursive=True)
    psutil.wait_procs(below, timeout=30)
    assert not [one for one in below if one.is_running()]


def _compare(one: EvaluationReport, other: EvaluationReport) -> None:
    """Generated text is the same, and nats agree to what two programs may differ by."""
    assert one.ruler == other.ruler
    assert [row.tokens for row in one.text] == [row.tokens for row in other.text]
    for rows, others in ((one.text, other.text), (one.rows, other.rows)):
        assert [row.nll for row in rows] == pytest.approx([row.nll for row in others], abs=1e-4)
