"""The whole way over REST, small: search, validation, fine-tuning hand-off, evaluation, factors that load."""

import ipaddress
from typing import Any

import httpx
import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from api.local_token import ensure_token
from ropewalk.client.sync import Client
from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.evaluation import EvaluationReport
from ropewalk.wire.reports import FinetuneReport, SearchReport
from tests.helpers.server_process import SEARCH_SECONDS, Served, wait_for

SPEC: dict[str, Any] = {
    "model": "pocket",
    "target_length": 384,
    "objective": {"documents": 4, "validation_documents": 6},
    "strategy": {"name": "evolution", "population": 4, "iterations": 1, "parents": 2, "mutations": 2, "crossovers": 1},
    "finetune": {"steps": 2, "long_documents_per_step": 1, "short_sequences_per_step": 1},
    "labels": {"of": "the whole way"},
}


@pytest.fixture
def client(served: Served) -> Client:
    return served.client


def test_nothing_listens_beyond_loopback(served: Served) -> None:
    server_process = psutil.Process(served.process.pid)
    tree = [server_process, *server_process.children(recursive=True)]
    listening = {
        (process.name(), connection.laddr.ip)
        for process in tree
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert any(name == "gcs_server" for name, _ in listening), "Ray runs"
    # IPv4 loopback looks like ::ffff:127.0.0.1 on a socket for both families.
    addresses = [ipaddress.ip_address(address.removeprefix("::ffff:")) for _, address in listening]
    assert all(address.is_loopback for address in addresses), listening


@pytest.mark.timeout(600)
def test_from_a_rest_call_to_a_fine_tuned_model(served: Served) -> None:
    client, log = served.client, served.log
    search = client.submit(SPEC)
    wait_for(lambda: client.get(search.id).is_final, SEARCH_SECONDS, log)
    search = client.get(search.id)
    assert search.state == "succeeded", search.error
    statement = search.report(SearchReport).statement
    assert "held-out" in statement

    states = [event.data["to"] for event in client.event_list(search.id).items if event.type == "state.changed"]
    assert states == ["preparing", "searching", "validating", "finetuning", "succeeded"]

    file = FactorFile.from_json(client.export(search.id))
    assert file.target_length == 384
    assert file.validation is not None

    (child,) = [job for job in client.jobs("finetune").items if job.parent_id == search.id]
    finetune = client.get(child.id)
    assert finetune.parent_id == search.id
    trained = finetune.report(FinetuneReport)
    model = AutoModelForCausalLM.from_pretrained(trained.checkpoint)
    assert model.config.rope_parameters["rope_type"] == "longrope"
    assert model.config.rope_parameters["long_factor"] == pytest.approx(file.long_factor.values)
    with torch.inference_mode():
        assert torch.isfinite(model(torch.ones((1, 300), dtype=torch.long)).logits).all()

    evaluation = client.submit_evaluation({"finetune_id": finetune.id, "documents": 4, "lengths": [256, 384]})
    wait_for(lambda: client.get(evaluation.id).is_final, SEARCH_SECONDS, log)
    evaluation = client.get(evaluation.id)
    assert evaluation.state == "succeeded", evaluation.error
    rows = evaluation.report(EvaluationReport).rows
    assert {row.length for row in rows} == {256, 384}
    assert {"none", "yarn", "found factors", "fine-tuned"} <= {row.name for row in rows}
    inside = {row.name: row.nll for row in rows if row.length == 256}
    assert inside["none"] == inside["yarn"] == inside["found factors"] != inside["fine-tuned"]


@pytest.mark.timeout(120)
def test_the_dashboard_shows_the_study(served: Served) -> None:
    client = served.client
    token = {"Authorization": f"Bearer {ensure_token(served.home)}"}
    (search,) = [job for job in client.jobs("search").items if job.labels == SPEC["labels"]]
    page = httpx.get(f"{client.url}/dashboard", headers=token)
    assert page.status_code == 200
    studies = httpx.get(f"{client.url}/api/studies", headers=token).json()["study_summaries"]
    assert any(study["study_name"].endswith(f"({search.id})") for study in studies)
    assert httpx.delete(f"{client.url}/api/studies/1", headers=token).status_code == 405
