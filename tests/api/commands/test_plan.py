"""`ropewalk plan` and `ropewalk submit --dry-run`: the table, its data, and what is refused on one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from api.cli import run
from ropewalk.wire.plan import Plan
from service.plans.making import plan_search
from service.plans.work import Device
from service.specs.plan import PlanOptions
from service.specs.search import SearchSpec
from tests.helpers.http_server import RunningServer

SPEC = {"model": "pocket", "target_length": 512, "workers": 2, "finetune": {"steps": 10}}


def written(directory: Path, spec: dict[str, object]) -> str:
    path = directory / "spec.json"
    path.write_text(json.dumps(spec))
    return str(path)


def test_the_table_has_a_row_for_each_kind_of_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", written(tmp_path, SPEC), "--gpu", "L4", "--gpus", "2", "--price", "0.7"]) == 0
    told = capsys.readouterr()
    for words in ("search", "validation", "training", "price", "on L4 at 40% of 121 TFLOP/s"):
        assert words in " ".join(told.out.split())
    assert "position-skipped search documents of 256 tokens" in told.err


def test_the_data_is_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", written(tmp_path, SPEC), "--json"]) == 0
    expected = plan_search(SearchSpec.model_validate(SPEC), Device.of(PlanOptions()))
    assert TypeAdapter(Plan).validate_json(capsys.readouterr().out) == expected


def test_flags_stand_for_a_spec(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--model", "pocket", "--target-length", "512", "--finetune", "--json"]) == 0
    assert [row["work"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["search", "validation", "training"]


def test_an_evaluation_is_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = written(tmp_path, {"model": "pocket", "target_length": 512})
    assert run(["plan", spec, "--kind", "evaluation", "--json"]) == 0
    assert [row["work"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["evaluation"]


def test_measured_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "--model", "pocket", "--target-length", "512", "--measure", "--price", "1", "--json"]) == 0
    plan = TypeAdapter(Plan).validate_json(capsys.readouterr().out)
    assert "measured" in plan.device
    assert all(row.hours > 0 and row.price == pytest.approx(row.hours) for row in plan.rows)


def test_a_model_is_measured_whose_l_is_longer_than_the_passes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.plans.measuring.MOST_TOKENS", 128)
    assert run(["plan", "--model", "pocket", "--target-length", "512", "--measure"]) == 0
    told = capsys.readouterr()
    assert "in passes of 128 tokens" in told.out
    assert "hours" not in told.out
    assert "measuring: pass 2 over 128 tokens, the last one took" in told.err, "a pass may take a minute"


def test_a_dry_run_submits_nothing(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROPEWALK_URL", server.url)
    assert run(["submit", written(tmp_path, SPEC), "--dry-run", "--json"]) == 0
    told = TypeAdapter(Plan).validate_json(capsys.readouterr().out)
    assert told == plan_search(SearchSpec.model_validate(SPEC), Device.of(PlanOptions()))
    with server.client() as client:
        assert client.jobs("search").items == []


def test_the_client_plans_with_options(quiet_server: RunningServer) -> None:
    with quiet_server.client() as client:
        before = client.jobs("search").items
        answer = client.plan(SPEC, options=PlanOptions(gpu="A100", price_per_gpu_hour=2.5))
        assert client.jobs("search").items == before
    device = Device.of(PlanOptions(gpu="A100", price_per_gpu_hour=2.5))
    assert answer == plan_search(SearchSpec.model_validate(SPEC), device)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "/no/such/model", "--target-length", "512"], "/no/such/model"),
        (["--model", "pocket", "--target-length", "512", "--price", "-1"], "price_per_gpu_hour"),
        (["--model", "pocket", "--target-length", "512", "--price", "nan"], "price_per_gpu_hour"),
        (["--model", "pocket", "--target-length", "512", "--price", "cheap"], "--price"),
        (["--model", "pocket", "--target-length", "512", "--gpu", "abacus"], "H100"),
        (["--model", "pocket", "--target-length", "512", "--utilisation", "0"], "utilisation"),
        (["--model", "pocket", "--target-length", "512", "--kind", "lunch"], "--kind must be"),
        (["--kind", "finetune"], "exactly one of search_id and factors"),
        (["--model", "pocket", "--target-length", "512", "--kind", "evaluation", "--measure"], "--measure"),
        (["--model", "pocket", "--target-length", "256"], "target_length must be greater"),
        (["--model", "pocket", "--target-length", "256", "--finetune", "--measure"], "target_length must be greater"),
        (["--model", "pocket"], "target_length"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", *arguments]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert said in told.err
