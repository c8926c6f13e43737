"""`ropewalk inspect`: the page and its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from api.cli import run
from ropewalk.wire.inspection import Inspection
from service.inspection.making import inspect_model
from tests.helpers.tiny_configs import config_of, saved

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


def _page(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["inspect", *arguments]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    return told.out


def test_the_page_of_the_pocket_model(capsys: pytest.CaptureFixture[str]) -> None:
    page = _page(capsys, "pocket")
    for words in (
        "pocket: llama, LlamaForCausalLM of transformers",
        "256 tokens, max_position_embeddings of the config",
        "1024 tokens, 4 times L",
        "rope_theta 10,000, 16 pairs (rotary_dim 32)",
        "9 of 16 pairs have wavelengths beyond L",
        "critical pairs: 7 in theory, 3 with ten periods",
        "no scaling of its own",
        "4 layers: attention over everything, rotary",
        "rescaled: all 4 rotary layers",
        "885,888 parameters, 3.38 MiB in float32",
        "KV cache of one sequence of 1024 tokens: 4 MiB",
        "vllm: yes",
        "a prior, not a verdict",
    ):
        assert words in page
    assert "warnings" not in page


def test_the_page_of_a_scaled_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = _page(capsys, saved(tmp_path, config_of("qwen3", rope_scaling=YARN)), "--target-length", "512")
    for words in (
        "256 tokens, what the model's own scaling makes of a shorter original length",
        "512 tokens, 2 times L",
        "scaling of its own, yarn: factors from 1 to 4, attention factor 1.139",
        "gguf: no, llama.cpp reads",
        "it normalises queries and keys; 2 query heads share each key and value head: such a choice alone",
    ):
        assert words in page


def test_warnings_have_a_place(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "warnings" in _page(capsys, saved(tmp_path, config_of("mistral", sliding_window=16)))


def test_a_name_with_brackets_is_no_markup(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "[red]x").mkdir()
    assert "[red]x: llama" in _page(capsys, saved(tmp_path / "[red]x", config_of("llama")))


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "pocket", "--original-length", "128", "--json"]) == 0
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    assert TypeAdapter(Inspection).validate_json(told) == inspect_model("pocket", original_length=128)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": "internlm2", "auto_map": {"AutoConfig": "x"}}, "its code comes with the checkpoint"),
        ({"model_type": "gpt2"}, "must use rotary positions"),
        ({"max_position_embeddings": 0}, "must be a positive whole number"),
    ],
)
def test_what_cannot_be_extended_is_one_line(
    fields: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = saved(tmp_path, {**config_of("llama"), **fields})
    assert run(["inspect", model]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert said in told.err
    assert run(["inspect", model, "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "UNSUPPORTED_ROPE"
