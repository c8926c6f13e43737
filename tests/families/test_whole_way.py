"""The whole way of seven structures: search over REST, factors, a config that loads, two steps of training, reload."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ropewalk.client.sync import Client
from ropewalk.factors.exports.hf import hf_config_fragment, merged_config
from ropewalk.factors.factor_file import FactorFile
from service.finetunes.prepare import prepare_finetune
from service.specs.finetune import FinetuneSpec
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from tests.helpers.families import family, save_family
from tests.helpers.family_training import STEPS, check_trained, load_plainly, nll
from tests.helpers.http_server import running_server
from tests.helpers.postgres import create_database
from tests.helpers.searches import SPEC, controller
from tests.helpers.waiting import wait_until

STRUCTURES = [
    "llama3.1-8b",
    "phi-3-mini-128k",  # Phi-4-mini's: longrope
    "gemma-3-1b",
    "gpt-oss-20b",
    "deepseek-v3",
    "qwen3.5",
    "mistral-small-3.1",
]


@pytest.fixture(scope="module")
def database(postgres_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """With a controller at work on it."""
    found = Database(create_database(postgres_url, "families", template=template_database))
    with controller(found, tmp_path_factory.mktemp("home"), lease_seconds=60.0):
        yield found
    found.close()


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[Client]:
    with running_server(database) as server, server.client() as connected:
        yield connected


@pytest.mark.parametrize("name", STRUCTURES)
def test_from_a_search_to_a_trained_model(
    name: str, database: Database, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = family(name)
    source = save_family(one, tmp_path / "model")
    target = 2 * source.rope.original_max_position_embeddings
    scorer = {"backend": "analytic", "attention_factor": 1.1}
    spec: dict[str, Any] = {**SPEC, "model": source.name, "target_length": target, "scorer": scorer}
    search = client.submit(spec)
    wait_until(lambda: client.get(search.id).is_final)
    assert client.get(search.id).state == "succeeded", client.get(search.id).error

    file = FactorFile.from_json(client.export(search.id))
    assert json.loads(client.export(search.id, format="hf")) == hf_config_fragment(file)
    exported = tmp_path / "exported"
    (tmp_path / "model").rename(exported)
    (exported / "config.json").write_text(json.dumps(merged_config(one.config, file)))
    assert math.isfinite(nll(load_plainly(exported), target))
    exported.rename(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(json.dumps(one.config))

    prepared = prepare_finetune(
        FinetuneSpec.model_validate({"search_id": search.id, "settings": STEPS}), JobStore(database)
    )
    check_trained(prepared.source, prepared.file, tmp_path / "out", monkeypatch)
