"""`ropewalk serve-model`: what it chooses and refuses; tests/vllm/test_plugin_server.py has it serve."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from api.cli import run
from ropewalk.factors.exports.registry import export
from ropewalk.rope.published import PairFactors
from ropewalk.serving.version import server_command
from tests.helpers.exporting import copy_of_pocket, pocket_factors
from tests.helpers.paths import POCKET

FILE = replace(pocket_factors(1.06), short_factor=PairFactors((1.0,) * 16))


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    return str(copy_of_pocket(tmp_path / "checkpoint", export(FILE, "hf")))


@pytest.fixture
def factors(tmp_path: Path) -> str:
    path = tmp_path / "factors.json"
    path.write_text(FILE.to_json())
    return str(path)


def test_it_says_what_it_chose(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve-model", checkpoint, "--dry-run", "--port", "8100", "--dtype", "float32"]) == 0
    told = capsys.readouterr()
    command = shlex.split(told.out)[1:]
    given = ["--model", checkpoint, "--max-model-len", "1024", "--port", "8100", "--dtype", "float32"]
    assert command == ["-m", *server_command(), *given]
    assert "texts of up to 256 tokens with its own RoPE, longer ones, up to 1024, with the long factors" in told.err


def test_factors_become_overrides(factors: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pocket", "--factors", factors, "--max-model-len", "512", "--dry-run", "--json"]
    assert run(["serve-model", *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["original_length"], told["target_length"]) == (256, 1024)
    command = told["command"]
    assert command[command.index("--max-model-len") + 1] == "512"
    assert json.loads(command[command.index("--hf-overrides") + 1]) == json.loads(export(FILE, "vllm"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CHECKPOINT", "--max-model-len", "4k"], "at most the target length of the factors, 1024, but is 4096"),
        (["CHECKPOINT", "--max-model-len", "many"], "a length must be a whole number of tokens"),
        (["CHECKPOINT", "--factors", "FACTORS"], "its config has factors for 1024 tokens already"),
        (["POCKET"], "must have factors for vLLM's plugin, but has none: give --factors FILE"),
        (["POCKET", "--factors", "OTHER"], "rope_theta must be the model's, 10000.0, but the factor file says 500.0"),
        (["POCKET", "--factors", "nowhere.json"], "the file must be readable, but nowhere.json is not"),
        (["./nowhere"], "a model must be 'pocket', an existing directory or a Hub id, but got model='./nowhere'"),
        (["CHECKPOINT", "--hf-overrides={}"], "--hf-overrides is what serve-model gives to vLLM itself: use --factors"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    arguments: list[str],
    message: str,
    checkpoint: str,
    factors: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "other.json"
    other.write_text(replace(FILE, model=replace(FILE.model, rope_theta=500.0)).to_json())
    known = {"CHECKPOINT": checkpoint, "POCKET": str(POCKET), "FACTORS": factors, "OTHER": str(other)}
    assert run(["serve-model", *(known.get(one, one) for one in arguments), "--dry-run"]) != 0
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err
    assert told.err.count("\n") == 1
