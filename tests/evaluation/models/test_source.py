"""Models by name: found, refused with the reason, identified by their weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend

from evaluation.errors import ModelNotFound, UnsupportedModel, UnsupportedTokenizer
from evaluation.models import source as model_source
from evaluation.models.source import load_tokenizer, model_sha256, resolve_model
from evaluation.models.tokenizer import HFTokenizer
from ropewalk.errors import UnsupportedRope
from tests.helpers.paths import ROOT, SDK
from tests.helpers.tokenizers import as_transformers

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "max_position_embeddings": 256,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(LLAMA))
    (path / "model.safetensors").write_bytes(b"weights")
    return path


def test_a_directory_is_a_model(model: Path) -> None:
    source = resolve_model(str(model))
    assert (source.name, source.path, source.revision) == (str(model), model, None)
    assert (source.rope.rope_theta, source.rope.num_pairs) == (10000.0, 16)
    assert source.rope.original_max_position_embeddings == 256


def test_pocket_is_an_alias(pocket_model: Path) -> None:
    source = resolve_model("pocket")
    assert source.path == pocket_model
    assert source.rope.original_max_position_embeddings == 256
    assert len(model_sha256(source)) == 64


def test_a_pocket_model_that_is_not_there_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_source, "_POCKET_PATH", tmp_path / "nothing")
    with pytest.raises(ModelNotFound, match=r"run examples/pocket/train.py"):
        resolve_model("pocket")


@pytest.mark.parametrize(
    "name", ["", "./nothing", "/no/such/model", "a/b/c", "owner/../model", "~/no-such-model", "a" * 300]
)
def test_a_name_that_is_nothing_is_refused_without_a_network(name: str) -> None:
    with pytest.raises(ModelNotFound, match="an existing directory or a Hub id, but got model="):
        resolve_model(name)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "must hold a config.json"),
        ("{", "must be readable JSON"),
        ("[" * 100_000, "must be readable JSON"),
        ("[]", "must be a JSON object, but .* a list"),
    ],
    ids=["none", "cut", "deep", "list"],
)
def test_a_directory_without_a_config_is_no_model(model: Path, config: str | None, said: str) -> None:
    (model / "config.json").unlink()
    if config is not None:
        (model / "config.json").write_text(config)
    with pytest.raises(UnsupportedModel, match=said):
        resolve_model(str(model))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_would_never_end_is_not_opened(model: Path, name: str) -> None:
    (model / name).unlink()
    os.mkfifo(model / name)
    with pytest.raises(UnsupportedModel, match=f"must be regular files, but .*{name} is none"):
        resolve_model(str(model))


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gpt2", "n_embd": 64, "n_head": 2, "n_positions": 256},
        {"model_type": "bloom", "hidden_size": 64, "n_head": 2},
    ],
    ids=["learned positions", "ALiBi"],
)
def test_a_model_without_plain_rope_is_refused(model: Path, config: dict[str, object]) -> None:
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedRope):
        resolve_model(str(model))


def test_the_hash_is_of_the_weights_only(model: Path) -> None:
    source = resolve_model(str(model))
    first = model_sha256(source)
    (model / "config.json").write_text(json.dumps({**LLAMA, "note": 1}))
    assert model_sha256(source) == first
    (model / "model.safetensors").write_bytes(b"weighty")  # as many bytes
    os.utime(model / "model.safetensors", ns=(1, 1))
    second = model_sha256(source)
    (model / "extra.safetensors").write_bytes(b"")
    assert len({first, second, model_sha256(source)}) == 3


def test_a_model_without_weights_has_no_hash(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(UnsupportedModel, match="must have weights"):
        model_sha256(resolve_model(str(model)))


def test_the_tokenizer_comes_with_the_model(model: Path, backend: Backend, tokenizer: HFTokenizer) -> None:
    as_transformers(backend, bos_token="<s>", eos_token="</s>").save_pretrained(str(model))
    loaded = load_tokenizer(resolve_model(str(model)))
    text = "The magic number for river is 1234567. </s> ünïcode"
    assert loaded.encode(text) == tokenizer.encode(text)
    assert loaded.decode(loaded.encode(text)) == text
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.bos_token_id is None


def test_special_tokens_are_not_read_out_of_a_text(tokenizer: HFTokenizer) -> None:
    assert not {0, 1} & set(tokenizer.encode("<s> and </s>"))


def test_a_fingerprint_tells_tokenizers_apart(backend: Backend, tokenizer: HFTokenizer) -> None:
    changed = json.loads(backend.to_str())
    changed["model"]["merges"].pop()
    other = HFTokenizer(as_transformers(Backend.from_str(json.dumps(changed))))
    assert other.fingerprint != tokenizer.fingerprint


def test_a_model_without_a_tokenizer_says_so(model: Path) -> None:
    with pytest.raises(UnsupportedTokenizer, match=r"must come with a tokenizer, but .* has none: .+") as caught:
        load_tokenizer(resolve_model(str(model)))
    assert "\n" not in str(caught.value)


HUB = """
import sys
from evaluation.errors import ModelNotFound
from evaluation.models.source import resolve_model
print(resolve_model("owner/tiny").revision, resolve_model("owner/bare", weights=False).rope.num_pairs)
for name in ("owner/none", "owner/bare", "owner/torn"):
    try:
        resolve_model(name)
    except ModelNotFound as error:
        print(error)
print(sorted({"ray", "sqlalchemy"} & set(sys.modules)))
"""


def test_hub_models_come_from_the_local_cache_first(tmp_path: Path) -> None:
    def cached(name: str, revision: str) -> Path:
        repository = tmp_path / "hub" / f"models--owner--{name}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(revision)
        snapshot = repository / "snapshots" / revision
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(json.dumps(LLAMA))
        return snapshot

    (cached("tiny", "a" * 40) / "model.safetensors").write_bytes(b"weights")
    cached("bare", "b" * 40)
    torn = cached("torn", "c" * 40)
    (torn / "one.safetensors").write_bytes(b"weights")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (torn / "model.safetensors.index.json").write_text(json.dumps(index))
    # The library reads these variables when it is imported, so it gets its own process.
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{ROOT}:{SDK}"}
    environment.pop("HF_HUB_CACHE", None)
    run = subprocess.run([sys.executable, "-c", HUB], env=environment, capture_output=True, text=True, timeout=120)
    lines = run.stdout.splitlines()
    assert lines[0] == f"{'a' * 40} 16", run.stderr
    assert "'owner/none' is not in the local Hugging Face cache, and" in lines[1]
    assert "owner/bare" in lines[2]
    assert "owner/torn" in lines[3]
    assert lines[4:] == ["[]"]  # naming a model is quick: nothing heavy was imported
