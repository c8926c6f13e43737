"""`python examples/score_factors.py` on the pocket model, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from api.cli import run
from examples import score_factors
from tests.helpers.http_server import factor_file
from tests.helpers.paths import ROOT, STARTUP


def example(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / "score_factors.py"), "pocket", *arguments, "--documents", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(STARTUP), str(ROOT)])}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_it_prints_what_the_command_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "factors.json"
    path.write_text(replace(factor_file(), target_length=512).to_json())
    done = example(str(path))
    assert done.returncode == 0, done.stderr
    assert run(["score", "--model", "pocket", "--factors", str(path), "--documents", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert f"NLL {told['nll']:.6f}, exact {told['exact_match']:.1%} of 2 documents" in done.stdout


def test_a_baseline_needs_no_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which has imported what takes a new one ten seconds."""
    monkeypatch.setattr(sys, "argv", ["", "pocket", "yarn", "--target-length", "512", "--documents", "2"])
    score_factors.main()
    assert capsys.readouterr().out.startswith("yarn on pocket at 512 tokens:\nNLL ")


def test_factors_of_another_model_are_refused(tmp_path: Path) -> None:
    file = factor_file()
    path = tmp_path / "factors.json"
    path.write_text(replace(file, model=replace(file.model, rope_theta=500_000.0)).to_json())
    done = example(str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("rope_theta must be the model's, 10000.0, but the factor file says 500000.0")
    assert done.stderr.count("\n") == 1
