"""What is kept on disk of a model that was read: the same, as long as its files, the libraries and our code are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.models import readings
from evaluation.models.readings import keep, reading_key, recall
from evaluation.models.source import load_tokenizer, resolve_model
from tests.helpers.paths import POCKET
from tests.helpers.vllm_families import FAMILIES


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory, of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ropewalk"


def _model(directory: Path, config: object) -> str:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    return str(directory)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_recalled_is_what_was_read(name: str, tmp_path: Path, kept: Path) -> None:
    model = _model(tmp_path / "model", FAMILIES[name])
    read = resolve_model(model)
    assert len(list(kept.iterdir())) == 1
    assert resolve_model(model) == read


def test_a_second_process_needs_neither_torch_nor_transformers() -> None:
    first = resolve_model("pocket"), load_tokenizer(resolve_model("pocket"))
    program = (
        "import sys; from evaluation.models.source import load_tokenizer, resolve_model; "
        "found = resolve_model('pocket'); "
        "print(repr(found), load_tokenizer(found).fingerprint); "
        "sys.exit(str({'torch', 'transformers'} & set(sys.modules)) if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{first[0]!r} {first[1].fingerprint}\n"


def test_each_length_and_each_change_of_a_file_is_read_for_itself(tmp_path: Path) -> None:
    config = json.loads((POCKET / "config.json").read_text())
    model = tmp_path / "model"
    name = _model(model, config)
    assert resolve_model(name).rope.original_max_position_embeddings == 256
    assert resolve_model(name, original_length=128).rope.original_max_position_embeddings == 128
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 512}))
    assert resolve_model(name).rope.original_max_position_embeddings == 512
    (model / "tokenizer.json").write_bytes((POCKET / "tokenizer.json").read_bytes())
    before = load_tokenizer(resolve_model(name)).fingerprint
    changed = json.loads((POCKET / "tokenizer.json").read_text())
    changed["model"]["merges"].pop()
    (model / "tokenizer.json").write_text(json.dumps(changed))
    assert load_tokenizer(resolve_model(name)).fingerprint != before


def test_other_libraries_and_other_code_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    key = reading_key("rotary", [b"one", b"two"])
    assert key == reading_key("rotary", [b"one", b"two"])
    assert len({key, reading_key("rotary", [b"on", b"etwo"]), reading_key("tokenizer", [b"one", b"two"])}) == 3
    monkeypatch.setattr(readings, "_readers", lambda: "transformers 6")
    assert reading_key("rotary", [b"one", b"two"]) != key


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_what_is_broken_is_not_there(content: bytes, kept: Path) -> None:
    assert recall("tokenizer-1") is None
    keep("tokenizer-1", {"a": 1.5})
    assert recall("tokenizer-1") == {"a": 1.5}
    (kept / "tokenizer-1.json").write_bytes(content)
    assert recall("tokenizer-1") is None


def test_where_nothing_can_be_kept_all_is_read(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.parent.mkdir()
    kept.write_text("a file where the directory should be")
    keep("rotary-1", 1)
    assert recall("rotary-1") is None
    assert resolve_model("pocket").rope.num_pairs == 16

    def homeless() -> Path:
        raise RuntimeError("no home directory")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    keep("rotary-1", 1)
    assert recall("rotary-1") is None


def test_a_refusal_is_not_kept(tmp_path: Path, kept: Path) -> None:
    model = _model(tmp_path / "model", {"model_type": "bloom", "hidden_size": 64, "n_head": 2})
    for _ in range(2):
        with pytest.raises(ValueError, match="ALiBi"):
            resolve_model(model)
    assert not kept.exists()
