"""Exports proven: what `ropewalk factors` writes gives, in the program it is for, the NLL that the scorer gave."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from api.cli import run
from evaluation.documents.needle import NeedleDocument
from ropewalk.factors.exports.registry import EXPORTS
from ropewalk.factors.factor_file import FactorFile
from tests.helpers.consumers import score_with
from tests.helpers.exporting import (
    LONG,
    ORIGINAL_LENGTH,
    SCALED,
    SHORT,
    TARGET_LENGTH,
    assert_close,
    copy_of_pocket,
    documents,
    pocket_factors,
    scored,
)
from tests.helpers.http_server import RunningServer, claimed_search, finish_search
from tests.helpers.pocket_gguf import write_pocket_gguf


def _nats(model: torch.nn.Module, document: NeedleDocument) -> float:
    """Over the answer tokens, from one plain forward pass."""
    ids = torch.tensor([document.token_ids])
    with torch.inference_mode():
        log_probabilities = model(ids, use_cache=False).logits[0].double().log_softmax(-1)
    positions = [position for span in document.answer_spans for position in range(*span)]
    return -sum(float(log_probabilities[position - 1, ids[0, position]]) for position in positions)


@pytest.fixture(params=[1.0, SCALED], ids=lambda factor: f"A={factor}")
def factor_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "factors.json"
    path.write_text(pocket_factors(request.param).to_json())
    return path


def _exported(factor_path: Path, format: str) -> str:
    """What the command writes into a file."""
    output = factor_path.with_name(f"{format}.json")
    assert run(["factors", str(factor_path), "--format", format, "-o", str(output)]) == 0
    return output.read_text()


@pytest.mark.parametrize("length", [SHORT, LONG])
def test_transformers_loads_the_hf_export(factor_path: Path, tmp_path: Path, length: int) -> None:
    directory = copy_of_pocket(tmp_path / "model", _exported(factor_path, "hf"))
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, use_safetensors=True)
    expected = scored(FactorFile.from_json(factor_path.read_text()), length)
    assert_close([_nats(model, document) for document in documents(length)], expected)


@pytest.mark.parametrize(("length", "context"), [(SHORT, ORIGINAL_LENGTH), (LONG, TARGET_LENGTH)])
def test_llama_cpp_loads_the_gguf_export(factor_path: Path, tmp_path: Path, length: int, context: int) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp has no wheel for this platform")
    source, output = write_pocket_gguf(tmp_path / "pocket.gguf"), tmp_path / "long.gguf"
    arguments = ["factors", str(factor_path), "--format", "gguf", "--model-gguf", str(source), "-o", str(output)]
    assert run(arguments) == 0
    expected = scored(FactorFile.from_json(factor_path.read_text()), length)
    assert_close(score_with("llama.cpp", output, documents(length), context=context), expected)


def test_mlx_loads_the_mlx_export(tmp_path: Path) -> None:
    """Long factors at every length, as the note says, and with the attention factor that was scored."""
    pytest.importorskip("mlx", reason="MLX has no wheel for this platform")
    file, path = pocket_factors(SCALED), tmp_path / "factors.json"
    path.write_text(file.to_json())
    directory = copy_of_pocket(tmp_path / "model", _exported(path, "mlx"))
    samples = (documents(SHORT)[0], documents(LONG)[0])  # MLX takes seconds for a document on a CPU
    expected = [scored(file, SHORT, long=True)[0], scored(file, LONG)[0]]
    assert_close(score_with("mlx-lm", directory, samples), expected, per_token=1e-4)


def test_the_lengths_tell_the_factors_apart() -> None:
    """Else the proofs above would pass with either: the wrong factors are worse than their tolerance by far."""
    file = pocket_factors(1.0)
    swapped = replace(file, short_factor=file.long_factor, long_factor=file.short_factor)
    for length in (SHORT, LONG):
        right, wrong = scored(file, length), scored(swapped, length)
        assert all(math.fabs(a - b) > 1e-2 for a, b in zip(right, wrong, strict=True))


def test_notes_go_to_standard_error(capsys: pytest.CaptureFixture[str], factor_path: Path, tmp_path: Path) -> None:
    file = FactorFile.from_json(factor_path.read_text())
    for name in ("hf", "vllm", "mlx", "csv"):
        assert run(["factors", str(factor_path), "--format", name]) == 0
        told = capsys.readouterr()
        assert told.err == "".join(f"note: {note}\n" for note in EXPORTS[name].notes(file))
        assert name == "csv" or json.loads(told.out)
    path = tmp_path / "mlx.json"
    assert run(["factors", str(factor_path), "--format", "mlx", "-o", str(path), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"path": str(path), "notes": list(EXPORTS["mlx"].notes(file))}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "gguf"], "say where to write it with -o"),
        (
            ["--format", "gguf", "-o", "out.gguf"],
            "convert_hf_to_gguf.py makes it, because the directory of model 'pocket'",
        ),
        (["--format", "gguf", "-o", "out.gguf", "--model-gguf", "none.gguf"], "No such file or directory: 'none.gguf'"),
        (["--format", "hf", "--model-gguf", "x.gguf"], "--model-gguf is for --format gguf only"),
        (["--format", "stone-tablet"], "json, hf, hf-long, vllm, mlx, csv, gguf, but got 'stone-tablet'"),
    ],
)
def test_what_the_command_refuses(
    capsys: pytest.CaptureFixture[str], factor_path: Path, arguments: list[str], message: str
) -> None:
    assert run(["factors", str(factor_path), *arguments]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)


def test_the_model_directorys_own_gguf_is_taken(
    capsys: pytest.CaptureFixture[str], factor_path: Path, tmp_path: Path
) -> None:
    directory, output = tmp_path / "model", tmp_path / "long.gguf"
    directory.mkdir()
    write_pocket_gguf(directory / "model.gguf")
    file = FactorFile.from_json(factor_path.read_text())
    factor_path.write_text(replace(file, model=replace(file.model, name=str(directory))).to_json())
    assert run(["factors", str(factor_path), "--format", "gguf", "-o", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(output)
    assert output.is_file()


def test_over_rest_notes_are_headers_and_a_gguf_is_refused(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    finish_search(server.jobs, lease)
    with server.http as http:
        address = f"/v1/searches/{lease.job_id}/factors"
        response = http.get(address, params={"format": "mlx"})
        assert response.json()["rope_scaling"]["type"] == "longrope"
        file = FactorFile.from_json(http.get(address).text)
        assert response.headers.get_list("Ropewalk-Note") == list(EXPORTS["mlx"].notes(file))
        refused = http.get(address, params={"format": "gguf"})
    assert (refused.status_code, refused.json()["code"]) == (422, "FORMAT_NEEDS_MODEL")
    assert f"ropewalk factors {lease.job_id} --format gguf --model-gguf" in refused.json()["detail"]
