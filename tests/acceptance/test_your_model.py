"""docs/your-model.md: every command of the guide, in its order, on a small stand-in."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from evaluation.documents.corpus import load_corpus
from evaluation.models.source import resolve_model
from tests.helpers.paths import ROOT
from tests.helpers.server_process import Served, own_environment

GUIDE = ROOT / "docs" / "your-model.md"
SMALLER = {
    "128k": "1k",
    "--lengths 8k,1k": "--lengths 256,1k",
    "--documents 20": "--documents 4",
    "--steps 400": "--steps 2",
}
QUICK = {
    "objective": {"documents": 4, "validation_documents": 6},
    "strategy": {"name": "evolution", "population": 4, "iterations": 1, "parents": 2, "mutations": 2, "crossovers": 1},
}


def _blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", GUIDE.read_text(), flags=re.DOTALL | re.MULTILINE)


def _commands() -> list[str]:
    return [line.removeprefix("$ ") for block in _blocks("console") for line in block.splitlines()]


def _smaller(text: str) -> str:
    for large, small in SMALLER.items():
        text = text.replace(large, small)
    return text


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What the guide's reader has: a model, a text, a spec, and the program."""
    shutil.copytree(resolve_model("pocket").path, tmp_path / "my-model")
    paragraphs = load_corpus(None).text.split("\n\n")
    rows = [json.dumps({"text": "\n\n".join(paragraphs[at : at + 20])}) for at in range(0, len(paragraphs), 20)]
    (tmp_path / "books.jsonl").write_text("\n".join(rows))
    (block,) = _blocks("yaml")
    spec = yaml.safe_load(_smaller(block))
    spec["objective"] |= QUICK["objective"]
    spec["strategy"] = QUICK["strategy"]
    # The server has a working directory of its own, as the guide's reader has not.
    spec["model"], spec["objective"]["corpus"] = str(tmp_path / "my-model"), f"{tmp_path / 'books.jsonl'}#text"
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(spec))
    program = tmp_path / "bin" / "ropewalk"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m api.cli "$@"\n')
    program.chmod(0o755)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_command_of_the_guide(served: Served, directory: Path) -> None:
    script = "set -eux -o pipefail\n" + _smaller("\n".join(_commands())) + "\n"
    environment = own_environment() | {
        "PATH": f"{directory / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]]),
        "ROPEWALK_HOME": str(served.home),
        "ROPEWALK_URL": str(served.client.url),
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "baseline" in done.stdout, "the verdict"
    assert json.loads((directory / "hf.json").read_text())["max_position_embeddings"] == 1024
    assert "<html" in (directory / "report.html").read_text()
    assert "target_length" in (directory / "every-field.yaml").read_text()


def test_the_guide_runs_what_it_shows() -> None:
    commands = _commands()
    assert len(commands) >= 15
    assert all(
        f"ropewalk {name}" in "\n".join(commands) for name in ("plan", "submit", "factors", "finetune", "evaluate")
    )
