"""`ropewalk score` on the pocket model, and the factor files that it refuses."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.cli import run
from evaluation.models.source import resolve_model
from finetune.language_model import load_model
from finetune.output.checkpoint import write_checkpoint
from ropewalk.factors.factor_file import FactorFile
from ropewalk.rope.published import PairFactors
from search_space.candidates.baselines import baseline
from tests.helpers.http_server import ROPE, factor_file

SHORT = ["--target-length", "512", "--documents", "3", "--seed", "7"]
SCORE = ["score", "--model", "pocket", "--json"]


def _json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    told = capsys.readouterr()
    assert told.out.count("\n") == 1, told.out
    value: dict[str, Any] = json.loads(told.out)
    return value


def _written(file: FactorFile, directory: Path) -> str:
    path = directory / "factors.json"
    path.write_text(file.to_json())
    return str(path)


def test_score_a_baseline_and_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    common = [*SCORE, *SHORT]
    assert run([*common, "--factors", "yarn"]) == 0
    by_name = _json(capsys)
    assert by_name["documents"] == len(by_name["document_scores"]) == 3
    assert set(by_name["document_scores"][0]) == {"id", "nats", "tokens", "exact"}
    nats = sum(one["nats"] for one in by_name["document_scores"])
    tokens = sum(one["tokens"] for one in by_name["document_scores"])
    assert by_name["nll"] == pytest.approx(nats / tokens), "summed first, divided once"
    assert 0 <= by_name["exact_match"] <= 1
    path = tmp_path / "factors.json"
    path.write_text(factor_file().to_json())
    assert run([*common, "--factors", str(path)]) == 0
    from_file = _json(capsys)
    assert from_file["nll"] != by_name["nll"], "the file's factors are those of 1024 tokens"
    assert run([*common, "--factors", "yarn", "--attention-factor", "1.2"]) == 0
    assert _json(capsys)["attention_factor"] == 1.2
    assert baseline("yarn", ROPE, 512).scaling.factors.values != factor_file().long_factor.values


def test_what_documents_share_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = tmp_path / "same.txt"
    words = [f"word{number}" for number in range(60)]
    lines = [" ".join(words[at:] + words[:at]) + "." for at in range(60)]
    text.write_text("\n\n".join(lines * 30))
    assert run([*SCORE, *SHORT, "--factors", "yarn", "--backend", "analytic"]) == 0
    assert _json(capsys)["overlap"]["effective_documents"] == pytest.approx(3.0, abs=0.3)
    assert run([*SCORE, *SHORT, "--factors", "yarn", "--backend", "analytic", "--corpus", str(text)]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["overlap"]["share"] > 0.5
    assert "note: the 3 documents share text with each other" in told.err


def test_skipped_documents_are_scored_at_their_positions(capsys: pytest.CaptureFixture[str]) -> None:
    skips = ["--skip-tokens", "100", "--skip-gaps", "1"]
    assert run([*SCORE, *SHORT, "--factors", "yarn", *skips]) == 0
    skipped = _json(capsys)
    assert skipped["skipped"] == {"tokens": 100, "gaps": 1, "places": "haystack"}
    assert all(one["id"].endswith("-skip100x1h") for one in skipped["document_scores"])
    assert run([*SCORE, *SHORT, "--factors", "none", *skips]) == 0
    assert _json(capsys)["nll"] != skipped["nll"], "the distances are those of the target length"


def test_a_shorter_original_length(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run([*SCORE, *SHORT, "--factors", "pi", "--original-length", "128"]) == 0
    told = _json(capsys)
    shorter, (warning,) = told["nll"], told["warnings"]
    assert warning.startswith("original_length 128 is below the 256 tokens that the model is published for")
    assert run([*SCORE, *SHORT, "--factors", "pi"]) == 0
    assert _json(capsys)["nll"] != shorter, "twice the factors"
    path = _written(factor_file(), tmp_path)
    assert run([*SCORE, *SHORT, "--factors", path, "--original-length", "128"]) == 2
    assert "must be the factor file's, 256" in capsys.readouterr().err


def test_a_file_for_a_shorter_original_length_is_scored_as_it_was_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = str(tmp_path / "pi.json")
    written = ["baselines", "--model", "pocket", "--target-length", "512", "--name", "pi", "-o", path]
    assert run([*written, "--original-length", "128"]) == 0
    told = capsys.readouterr().err
    assert "note: original_length 128 is below the 256 tokens" in " ".join(told.split())
    assert FactorFile.from_json(Path(path).read_text()).model.served_length == 256
    assert run([*SCORE, *SHORT, "--factors", "pi", "--original-length", "128"]) == 0
    by_name = _json(capsys)
    assert run([*SCORE, *SHORT, "--factors", path]) == 0
    by_file = _json(capsys)
    assert by_file["document_scores"] == by_name["document_scores"]
    assert by_file["warnings"] == by_name["warnings"]


def _of(**model: Any) -> FactorFile:
    file = factor_file()
    length = model.pop("original_max_position_embeddings", 256)
    return replace(file, model=replace(file.model, **model), original_max_position_embeddings=length)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (_of(rope_theta=500_000.0), "rope_theta must be the model's, 10000.0, but the factor file says 500000.0"),
        (
            _of(original_max_position_embeddings=512),
            "must be at most the model's, 256, but the factor file says 512",
        ),
        (_of(partial_rotary_factor=0.5), "partial_rotary_factor must be the model's, 1.0"),
        (_of(sha256="0" * 64), "sha256 of the weights must be the model's"),
    ],
)
@pytest.mark.parametrize("stdin", [False, True], ids=["file", "stdin"])
def test_factors_of_another_model_are_scored_on_request_only(
    file: FactorFile,
    said: str,
    stdin: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def given() -> list[str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(file.to_json()))
        return [*SCORE, *SHORT, "--factors", "-" if stdin else _written(file, tmp_path)]

    assert run(given()) == 2
    told = capsys.readouterr()
    problem = json.loads(told.err)
    assert told.out == ""
    assert problem["code"] == "FACTORS_DO_NOT_FIT"
    assert said in problem["detail"]
    assert "--other-model" in problem["detail"]
    assert run([*given(), "--other-model"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["documents"] == 3
    assert said in told.err


def test_factors_of_another_width_are_scored_by_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ones, file = PairFactors((1.0,) * 8), factor_file()
    half = replace(file, model=replace(file.model, rotary_dim=16), short_factor=ones, long_factor=ones)
    path = _written(half, tmp_path)
    assert run([*SCORE, *SHORT, "--factors", path, "--other-model"]) == 2
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["code"] == "INVALID_RESCALE_FACTORS"


def test_the_target_length_is_the_files_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _written(replace(factor_file(), target_length=512), tmp_path)
    assert run([*SCORE, "--documents", "1", "--factors", path]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["target_length"] == 512
    assert "note:" not in told.err
    assert run([*SCORE, "--documents", "1", "--factors", path, "--target-length", "400"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["target_length"] == 400
    assert told.err == "note: the factors are for target_length=512, but are scored at 400 tokens\n"


def test_a_checkpoint_fine_tuned_with_the_factors_is_scored_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, file = resolve_model("pocket"), replace(factor_file(), target_length=512)
    model = load_model(source.path)
    next(model.parameters()).data[0] += 1.0  # trained: its weights have another checksum
    write_checkpoint(model, source=source, file=file, model_card="", output=tmp_path / "tuned")
    tuned = ["score", "--model", str(tmp_path / "tuned"), "--documents", "1", "--json"]
    known = replace(file, model=replace(file.model, sha256="0" * 64))
    assert run([*tuned, "--factors", _written(known, tmp_path)]) == 0
    assert capsys.readouterr().err == ""
    others = replace(known, long_factor=PairFactors(baseline("pi", ROPE, 512).scaling.factors.values))
    assert run([*tuned, "--factors", _written(others, tmp_path)]) == 2
    assert "sha256 of the weights" in json.loads(capsys.readouterr().err)["detail"]
