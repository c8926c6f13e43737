"""On the command line, in files and in the environment: what each bad input is told, word for word. The table is to be
read as its user would."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.cli import run

ROWS = yaml.safe_load((Path(__file__).parent / "command_line.yaml").read_text())
FILES = {
    "empty.txt": b"",
    "short.txt": b"one two three",
    "bytes.txt": b"\xff\xfe\x00",
    "rows.jsonl": b'{"text": 1}\n',
    "broken.jsonl": b'{"text"\n',
    "data.csv": b"a,b",
    "not.json": b"{",
    "list.json": b"[]",
    "fields.json": b'{"format": "ropewalk.factors/1"}',
    "s1.yaml": b"model: pocket\ntarget_lenght: 1024\n",
    "s2.yaml": b"model: pocket\n  bad: [\n",
    "s3.yaml": b"- a\n",
    "s4.yaml": b"model: pocket\ntarget_length: 1k5\n",
    "s5.yaml": b"",
    "s6.json": b'{"model": "pocket", "model": "x"}',
    "s7.yaml": b"model: pocket\nmodel: pocket\ntarget_length: 1024\n",
    "s8.toml": b"model='pocket'",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory: Path = tmp_path_factory.mktemp("files")
    for name, content in FILES.items():
        (directory / name).write_bytes(content)
    sound = directory / "ok.json"
    assert run(["baselines", "--model", "pocket", "--target-length", "1024", "--name", "yarn", "-o", str(sound)]) == 0
    few = json.loads(sound.read_text())
    few["long_factor"] = few["long_factor"][:3]
    (directory / "few.json").write_text(json.dumps(few))
    return directory


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['command']} {row.get('environment', '')}" for row in ROWS])
def test_what_is_said(
    row: dict[str, Any], files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    for name, value in row.get("environment", {}).items():
        monkeypatch.setenv(name, value)
    assert run(shlex.split(row["command"])) == 2
    told = capsys.readouterr().err
    assert told == f"ropewalk: {row['says']}\n"
