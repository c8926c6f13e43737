"""`ropewalk ablate`: what it prints and writes, and what it refuses. Experiments that need Ray: tests/service."""

import json
from pathlib import Path
from typing import Any

import pytest

from api.cli import run
from service.ablations.cells import AblationStore, run_cell
from service.ablations.results import Ablation, Failure
from service.ablations.spec import parse_ablation

PNG = b"\x89PNG\r\n\x1a\n"
EVOLUTION = {"name": "evolution", "population": 4, "iterations": 1, "parents": 2, "mutations": 2, "crossovers": 2}
SPEC: dict[str, Any] = {
    "name": "two-lengths",
    "base": {
        "model": "pocket",
        "target_length": 512,
        "objective": {"documents": 2, "validation_documents": 4},
        "scorer": {"backend": "analytic"},
    },
    "strategies": [{"label": "[4] of [b]ten[/b]", "strategy": EVOLUTION}],
    "seeds": [0, 1],
    "target_lengths": [512, 640],
    "heldout_documents": 3,
    "checkpoints": [30],
}


@pytest.fixture
def spec_path(tmp_path: Path) -> Path:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(SPEC))
    return path


def finish(output: Path) -> None:
    """Every cell, so that the command has only to tell."""
    parsed = parse_ablation(SPEC)
    store = AblationStore.claim(parsed, output)
    for cell in parsed.cells():
        store.put(cell, run_cell(parsed, cell))


def test_the_example_is_a_spec(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ablate", "--example"]) == 0
    assert parse_ablation(json.loads(capsys.readouterr().out)).base.model == "pocket"


def test_a_finished_experiment_is_told_as_table_picture_and_json(
    spec_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(tmp_path)
    assert run(["ablate", str(spec_path), "-o", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert told.out.count("[4] of [b]ten[/b]") == 2, "a table for each length"
    assert told.out.count("mrrope_pro") == 2
    assert "6/6 " in told.err
    directory = tmp_path / "two-lengths"
    assert (directory / "ablation.png").read_bytes().startswith(PNG)
    written = json.loads((directory / "ablation.json").read_text())
    assert (written["format"], len(written["cells"]), len(written["groups"])) == ("ropewalk.ablation/1", 4, 2)
    assert run(["ablate", str(spec_path), "-o", str(tmp_path), "--json"]) == 0
    told = capsys.readouterr()
    assert told.out.count("\n") == 1
    answer = json.loads(told.out)
    assert answer.pop("paths") == {
        "json": str(directory / "ablation.json"),
        "picture": str(directory / "ablation.png"),
    }
    assert answer == written
    cell, group = written["cells"][0], written["groups"][0]
    assert set(cell["held_out"]) == {"nll", "nll_standard_error", "exact_match", "documents"}
    assert group["nll"]["low"] <= group["nll"]["median"] <= group["nll"]["high"]
    assert group["seeds"] == [0, 1]


def test_failed_cells_are_told_and_end_in_exit_code_1(
    spec_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Ablation(
        spec=parse_ablation(SPEC), cells=(), baselines=(), failures=(Failure(cell="this one", reason="no memory"),)
    )
    monkeypatch.setattr("service.ablations.run.run_ablation", lambda *_, **__: failed)
    assert run(["ablate", str(spec_path), "-o", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert "1 of 6 cells failed" in told.err
    assert "this one: no memory" in told.err
    assert (tmp_path / "two-lengths" / "ablation.png").exists(), "an empty picture is one too"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strategy": {}}, "/strategy: "),
        ({"name": "no spaces"}, "/name: "),
        ({"seeds": [1_000_000]}, "heldout_seed"),
        ({"strategies": [{"label": "x", "strategy": {"name": "magic"}}]}, "x, pocket, 512 tokens, seed 0: "),
        ({"models": ["/no/such/model"]}, "/no/such/model"),
        ({"target_lengths": [64]}, "target_length"),
    ],
)
def test_a_bad_spec_is_one_line_and_exit_code_2(
    changes: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({**SPEC, **changes}))
    assert_refused(["ablate", str(path), "-o", str(tmp_path)], said, capsys)


def test_bad_input_is_one_line_and_exit_code_2(
    spec_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ablate = ["ablate", str(spec_path), "-o"]
    assert_refused(["ablate"], "--example", capsys)
    assert_refused(["ablate", "/no/such/spec.json"], "/no/such/spec.json", capsys)
    assert_refused([*ablate, str(tmp_path), "--workers", "0"], "workers", capsys)
    assert_refused([*ablate, str(spec_path)], "must be writable", capsys)
    begun = parse_ablation({**SPEC, "heldout_documents": 4})
    AblationStore.claim(begun, tmp_path).put(begun.cells()[0], ())
    assert_refused([*ablate, str(tmp_path)], "heldout_documents changed since", capsys)
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert_refused([*ablate, str(tmp_path / "elsewhere")], "ray://head:10001", capsys)


def assert_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("ropewalk: ")
    assert told.err.count("\n") == 1
    assert said in told.err
