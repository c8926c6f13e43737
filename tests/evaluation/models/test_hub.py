"""Models of the Hub at a revision, against a stand-in of the Hub over real HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from evaluation.models.hub import HubName
from evaluation.models.source import resolve_model
from tests.helpers.hub_stand_in import hub_stand_in
from tests.helpers.paths import ROOT, SDK

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "max_position_embeddings": 256,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
_RESOLVE = """
import sys
from evaluation.errors import ModelNotFound
from evaluation.models.source import resolve_model
for name in sys.argv[1:]:
    try:
        found = resolve_model(name)
        print(found.name, found.revision, found.reference, found.rope.original_max_position_embeddings)
    except ModelNotFound as error:
        print(error)
"""


@dataclass(frozen=True)
class Hub:
    """A stand-in with one model of three commits: v1 is a tag's, main and the branch wide went on."""

    url: str
    cache: Path
    commits: tuple[str, str]

    def resolve(self, *names: str, **environment: str) -> list[str]:
        """A line for each name, by a process whose Hub is this one: the library reads its settings when imported."""
        known = {"HF_ENDPOINT": self.url, "HF_HOME": str(self.cache), "PYTHONPATH": f"{ROOT}:{SDK}"}
        cleared = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        run = subprocess.run(
            [sys.executable, "-c", _RESOLVE, *names],
            env={**cleared, **known, **environment},
            cwd=self.cache,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout.splitlines()


def _commit(api: HfApi, length: int, branch: str) -> str:
    config = json.dumps({**LLAMA, "max_position_embeddings": length}).encode()
    files = {"config.json": config, "model.safetensors": b"weights of %d" % length, "README.md": b"---\na: b\n---\n"}
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    return api.create_commit("lab/tiny", operations, commit_message=f"{length} tokens", revision=branch).oid


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with hub_stand_in() as url:
        api = HfApi(endpoint=url, token="hf_writer")
        api.create_repo("lab/tiny")
        first = _commit(api, 256, "main")
        api.create_branch("lab/tiny", branch="v1")
        second = _commit(api, 512, "main")
        yield Hub(url, tmp_path_factory.mktemp("hub"), (first, second))


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub: Hub) -> None:
    first, second = hub.commits
    lines = hub.resolve("lab/tiny@v1", "lab/tiny", "lab/tiny@main", f"lab/tiny@{first}")
    assert lines == [
        f"lab/tiny {first} lab/tiny@{first} 256",
        f"lab/tiny {second} lab/tiny@{second} 512",
        f"lab/tiny {second} lab/tiny@{second} 512",
        f"lab/tiny {first} lab/tiny@{first} 256",
    ]


def test_what_was_fetched_once_is_read_without_a_network(hub: Hub) -> None:
    hub.resolve("lab/tiny@v1")
    first, _ = hub.commits
    expected = f"lab/tiny {first} lab/tiny@{first} 256"
    assert hub.resolve("lab/tiny@v1", f"lab/tiny@{first}", HF_HUB_OFFLINE="1") == [expected] * 2
    assert hub.resolve("lab/tiny@v1", f"lab/tiny@{first}", HF_ENDPOINT="http://127.0.0.1:9") == [expected] * 2


def test_a_branch_that_moved_is_followed_and_a_commit_stays(hub: Hub) -> None:
    api = HfApi(endpoint=hub.url, token="hf_writer")
    api.create_branch("lab/tiny", branch="wide")
    hub.resolve("lab/tiny@wide")
    third = _commit(api, 1024, "wide")
    _, second = hub.commits
    assert hub.resolve("lab/tiny@wide", f"lab/tiny@{second}") == [
        f"lab/tiny {third} lab/tiny@{third} 1024",
        f"lab/tiny {second} lab/tiny@{second} 512",
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lab/tiny@v9", "the Hub knows no revision 'v9' of lab/tiny"),
        (f"lab/tiny@{'0' * 40}", f"the Hub knows no revision '{'0' * 40}' of lab/tiny"),
        ("lab/none@v1", "the Hub knows no such public model"),
        ("lab/tiny@", "a model must be 'pocket', an existing directory or a Hub id, but got model='lab/tiny@'"),
        ("lab/tiny@a b", "a model must be 'pocket', an existing directory or a Hub id"),
        ("lab/tiny@../x", "a model must be 'pocket', an existing directory or a Hub id"),
    ],
)
def test_what_is_not_there_is_one_line(hub: Hub, name: str, reason: str) -> None:
    (line,) = hub.resolve(name)
    assert reason in line


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("owner/model", HubName("owner/model")),
        ("owner/model@v1.0", HubName("owner/model", "v1.0")),
        ("gpt2@refs/pr/1", HubName("gpt2", "refs/pr/1")),
        ("owner/model@a@b", HubName("owner/model", "a@b")),
        ("./owner/model@v1", None),
        ("/models/a@b", None),
        ("owner/model@", None),
        ("owner/model@a..b", None),
        ("owner/model@-~1", None),
        ("@v1", None),
    ],
)
def test_names_with_a_revision(name: str, expected: HubName | None) -> None:
    assert HubName.of(name) == expected
    assert expected is None or str(expected) == name


def test_a_directory_may_have_an_at_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "tiny@v1"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(LLAMA))
    monkeypatch.chdir(tmp_path)
    for name in ("tiny@v1", "./tiny@v1", str(directory)):
        source = resolve_model(name)
        assert (source.name, source.path, source.revision) == (name, directory, None)
        assert source.reference == str(directory)
