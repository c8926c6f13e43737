"""`ropewalk push` against a stand-in of the Hub: what is there afterwards, and what is refused, in one line each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi, hf_hub_download

from api.cli import run
from evaluation.models.source import resolve_model
from finetune.config import FinetuneSettings
from finetune.language_model import load_model
from finetune.output.checkpoint import write_checkpoint
from finetune.output.model_card import model_card, original_context
from finetune.results import FinetuneResult
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.wire.evaluation import EvaluationReport, EvaluationRow
from ropewalk.wire.kinds import JobState
from ropewalk.wire.reports import FinetuneReport
from storage.records import Progress
from tests.helpers.http_server import RunningServer, claimed_search, factor_file, finish_search
from tests.helpers.hub_stand_in import hub_stand_in, use_hub
from tests.helpers.paths import POCKET, ROOT, SDK

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content")  # of the library that uploads
NO_HUB = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with hub_stand_in() as url:
        yield url


@pytest.fixture(autouse=True)
def _settings(server: RunningServer, hub: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROPEWALK_URL", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    monkeypatch.chdir(tmp_path)
    use_hub(hub, tmp_path / "cache", monkeypatch)


@pytest.fixture
def search(server: RunningServer) -> str:
    lease = claimed_search(server.jobs)
    finish_search(server.jobs, lease)
    return lease.job_id


@pytest.fixture
def finetune(server: RunningServer, tmp_path: Path) -> str:
    """A job whose checkpoint was written by what writes all of them, from a model in a directory, and lay about."""
    model = tmp_path / "secret-project" / "my-model"
    shutil.copytree(POCKET, model)
    source = resolve_model(str(model))
    file = FactorFile.from_json(factor_file().to_json())
    file = FactorFile.of(
        source.rope, file.scaling, model=ModelIdentity.of(source.rope, name=str(model)), target_length=1024
    )
    checkpoint = tmp_path / "home" / "checkpoint-1"
    settings = FinetuneSettings(corpus=str(tmp_path / "secret-project" / "books.jsonl#text"))
    result = FinetuneResult(
        checkpoint=checkpoint,
        steps=2,
        tokens=100,
        initial_loss_long=1.0,
        final_loss_long=0.5,
        initial_loss_middle=None,
        final_loss_middle=None,
        initial_loss_short=None,
        final_loss_short=None,
        initial_loss_skipped=None,
        final_loss_skipped=None,
        seconds=1.0,
    )
    card = model_card(source, file, settings, result)
    write_checkpoint(load_model(model), source=source, file=file, model_card=card, output=checkpoint)
    for name in ("optimizer.pt", ".DS_Store", "notes.txt", "other.safetensors"):
        (checkpoint / name).write_text("mine")
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "_name_or_path": str(model)}))

    created = server.jobs.create("finetune", json.dumps({"factors": {}})).job
    claimed = server.jobs.claim("test", 60)
    assert claimed is not None
    report = FinetuneReport(
        checkpoint=str(checkpoint),
        model=str(model),
        target_length=1024,
        factors=file,
        steps=2,
        tokens=100,
        initial_loss_long=1.0,
        final_loss_long=0.5,
        seconds=1.0,
    )
    for state in (JobState.preparing, JobState.training):
        server.jobs.transition(claimed[1], state)
    server.jobs.transition(claimed[1], JobState.succeeded, result_json=report.to_json(), progress=Progress())
    return created.id


def evaluate(server: RunningServer, **spec: str) -> str:
    created = server.jobs.create("evaluation", json.dumps(spec)).job
    claimed = server.jobs.claim("test", 60)
    assert claimed is not None
    row = EvaluationRow(
        name="finetuned",
        length=1024,
        nll=0.125,
        nll_standard_error=None,
        perplexity=1.1,
        exact_match=0.75,
        documents=4,
        by_depth=(),
    )
    report = EvaluationReport(model="pocket", original_length=256, target_length=1024, rows=(row,))
    for state in (JobState.preparing, JobState.evaluating):
        server.jobs.transition(claimed[1], state)
    server.jobs.transition(claimed[1], JobState.succeeded, result_json=report.to_json(), progress=Progress())
    return created.id


def read(hub: str, repository: str, name: str, revision: str | None = None) -> str:
    return Path(hf_hub_download(repository, name, revision=revision, endpoint=hub, token="hf_writer")).read_text()


def front(card: str) -> dict[str, object]:
    _, head, _ = card.split("---\n", 2)
    value: dict[str, object] = yaml.safe_load(head)
    return value


def pushed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    assert run(["push", *arguments, "--json"]) == 0, capsys.readouterr().err
    found: dict[str, str] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["push", *arguments]) in (1, 2)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1, told.err
    return told.err


def test_the_factors_of_a_search(capsys: pytest.CaptureFixture[str], hub: str, search: str) -> None:
    done = pushed(capsys, search, "--to", "lab/factors", "--base-model", "lab/base@v2", "--license", "mit")
    api = HfApi(endpoint=hub, token="hf_writer")
    files = set(api.list_repo_files("lab/factors"))
    assert files - {".gitattributes"} == set(done["files"])
    assert {"README.md", "factors.json", "factors.csv", "hf.json", "vllm.json"} <= files
    assert done["url"].endswith(f"lab/factors/commit/{done['commit']}")

    card = read(hub, "lab/factors", "README.md")
    tags = ["longrope", "long-context", "ropewalk"]
    assert front(card) == {"base_model": "lab/base", "license": "mit", "tags": tags}
    assert "yarn it is" in card, "the verdict"
    assert "ropewalk serve-model lab/base@v2 --factors" in card
    file = FactorFile.from_json(read(hub, "lab/factors", "factors.json"))
    assert (file.model.name, file.model.revision) == ("lab/base", "v2")
    assert file.long_factor == factor_file().long_factor


def test_a_checkpoint_and_nothing_beside_it(
    capsys: pytest.CaptureFixture[str], hub: str, server: RunningServer, finetune: str, tmp_path: Path
) -> None:
    evaluation = evaluate(server, finetune_id=finetune)
    pushed(capsys, finetune, "--to", "lab/long-model", "--license", "mit", "--base-model", "lab/base", "--private")
    api = HfApi(endpoint=hub, token="hf_writer")
    files = set(api.list_repo_files("lab/long-model")) - {".gitattributes"}
    expected = {"README.md", "config.json", "factors.json", "model.safetensors", "tokenizer.json"}
    assert expected <= files <= expected | {"generation_config.json", "tokenizer_config.json"}
    for name in files - {"model.safetensors"}:
        assert str(tmp_path) not in read(hub, "lab/long-model", name), name
        assert "secret-project" not in read(hub, "lab/long-model", name), name
    checkpoint = tmp_path / "home" / "checkpoint-1"
    weights = Path(hf_hub_download("lab/long-model", "model.safetensors", endpoint=hub, token="hf_writer"))
    assert weights.read_bytes() == (checkpoint / "model.safetensors").read_bytes()

    card = read(hub, "lab/long-model", "README.md")
    assert front(card)["base_model"] == "lab/base"
    assert front(card)["base_model_relation"] == "finetune"
    assert f"evaluation `{evaluation}`" in card
    assert "| finetuned | 1024 | 4 | 0.1250 | 0.750 |" in card
    assert "vllm serve lab/long-model --max-model-len 1024" in card
    assert "books.jsonl#text" in card, "the corpus by its name"


def test_a_card_tells_of_an_original_length_below_the_models() -> None:
    file = FactorFile.from_json(factor_file().to_json())
    assert original_context("org/m", file) == "org/m was trained on windows of 256 tokens"
    lowered = replace(file, model=replace(file.model, served_length=1024))
    assert original_context("org/m", lowered) == (
        "org/m was published for 1024 tokens, and is taken here for a model of 256"
    )


def test_a_branch_and_a_message(capsys: pytest.CaptureFixture[str], hub: str, search: str) -> None:
    pushed(capsys, search, "--to", "ada/factors")
    done = pushed(capsys, search, "--to", "factors", "--revision", "try-2", "-m", "A second try", "--license", "mit")
    assert done["repository"] == "ada/factors", "the token's own"
    told = json.loads(subprocess.check_output(["curl", "-s", f"{hub}/stand-in"]))["ada/factors"]
    assert [(one["branch"], one["title"]) for one in told["log"]] == [
        ("main", "initial commit"),
        ("main", f"Ropewalk: {search}"),
        ("try-2", "A second try"),
    ]
    assert told["private"] is False
    assert front(read(hub, "ada/factors", "README.md", "try-2"))["license"] == "mit"


def test_the_license_is_the_base_models(capsys: pytest.CaptureFixture[str], search: str) -> None:
    pushed(capsys, search, "--to", "lab/first", "--license", "apache-2.0")
    assert run(["push", search, "--to", "lab/second", "--base-model", "lab/first", "--dry-run", "--json"]) == 0
    told = capsys.readouterr()
    assert front(json.loads(told.out)["card"])["license"] == "apache-2.0"
    assert run(["push", search, "--to", "lab/second", "--dry-run"]) == 0
    told = capsys.readouterr()
    assert "factors.json  " in told.out
    assert "note: the card names no license, because the base model's is not known: give --license" in told.err


@pytest.mark.parametrize(
    ("to", "more", "message"),
    [
        ("lab/a--b", [], "--to must be org/name: letters, digits, '-', '_' and '.'"),
        ("a/b/c", [], "--to must be org/name"),
        ("https://huggingface.co/lab/x", [], "--to must be org/name"),
        ("lab/x@v2", [], "--to must be a repository alone, but got 'lab/x@v2': give --revision v2"),
        ("lab/x", ["--revision", "a b"], "--revision must be the name of a branch, but got 'a b'"),
        ("lab/x", ["--revision", "0" * 40], "--revision must be the name of a branch"),
        ("lab/x", ["-m", " "], "--commit-message must not be empty"),
        ("lab/x", ["--base-model", "x"], "--base-model must be org/name, or org/name@revision, but got 'x'"),
        ("google/x", [], "must be of the token's user, ada, a member of lab, but got 'google/x'"),
    ],
)
def test_bad_destinations(
    capsys: pytest.CaptureFixture[str], search: str, to: str, more: list[str], message: str
) -> None:
    assert message in refused(capsys, search, "--to", to, *more)


def test_bad_tokens_jobs_and_networks(
    capsys: pytest.CaptureFixture[str],
    server: RunningServer,
    search: str,
    finetune: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    to = ("--to", "lab/x", "--license", "mit", "--base-model", "lab/base")
    queued = server.jobs.create("search", json.dumps({"model": "pocket", "target_length": 1024})).job.id
    assert f"{queued} has none: its state is queued" in refused(capsys, queued, *to)
    assert "a job must exist" in refused(capsys, "srch_00000000000000000000000000", *to)
    server.jobs.request(queued, "cancel")
    evaluation = evaluate(server)
    assert f"push is for searches and fine-tuning jobs, but {evaluation} is" in refused(capsys, evaluation, *to)

    pushed(capsys, search, "--to", "lab/public")
    message = refused(capsys, search, "--to", "lab/public", "--private", "--license", "mit", "--base-model", "lab/b")
    assert "lab/public is there and is public" in message

    shutil.rmtree(tmp_path / "home")
    assert "the server must have the checkpoint's files, but has none any more" in refused(capsys, finetune, *to)

    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert "must be of the token's user, bob, a member of no organization" in refused(capsys, search, *to)
    message = refused(capsys, search, "--to", "bob/x", *to[2:])
    assert "the token must be one that may write to bob/x, but" in message
    assert "refuses it (403): You don't have the rights" in message
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    assert "is not known there, but" in refused(capsys, search, *to)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert "set HF_TOKEN, or run `hf auth login`" in refused(capsys, search, *to)
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    use_hub(NO_HUB, tmp_path / "cache", monkeypatch)
    assert f"{NO_HUB} must be reachable, but is not: " in refused(capsys, search, *to)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "push needs the Hub, but HF_HUB_OFFLINE is set: unset it" in refused(capsys, search, *to)


@pytest.mark.slow
def test_what_the_card_says_runs(hub: str, search: str, tmp_path: Path) -> None:
    """As a process, as users push, and then the card's own lines of Python."""
    HfApi(endpoint=hub, token="hf_writer").create_repo("lab/pocket", exist_ok=True)
    environment = {name: text for name, text in os.environ.items() if not name.startswith("HF_")} | {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": "hf_writer",
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": f"{ROOT}:{SDK}",
    }
    HfApi(endpoint=hub, token="hf_writer").upload_folder(repo_id="lab/pocket", folder_path=str(POCKET))
    command = [sys.executable, "-m", "api", "push", search, "--to", "lab/read-me", "--base-model", "lab/pocket"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{hub}/lab/read-me/commit/")
    assert done.stderr == "note: the card names no license, because the base model's is not known: give --license\n"
    card = read(hub, "lab/read-me", "README.md")
    _, _, rest = card.partition("```python\n")
    program = rest.partition("```")[0] + "\nprint(model(model.dummy_inputs['input_ids']).logits.shape)\n"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "torch.Size" in done.stdout
