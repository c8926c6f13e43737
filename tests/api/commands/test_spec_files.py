"""Specs as people write them: YAML, lengths as 32k, a template to fill in."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from api.cli import run
from api.commands.spec_files import read_object, template
from ropewalk.client.errors import BadInput
from ropewalk.reading.lengths import tokens_of
from ropewalk.version import ROPEWALK_VERSION
from service.specs.evaluation import EvaluationSpec
from service.specs.finetune import FinetuneOptions, FinetuneSpec
from service.specs.search import SearchSpec
from tests.helpers.paths import ROOT


def written(directory: Path, text: str, name: str = "spec.yaml") -> str:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_yaml_file_says_what_a_json_file_says(tmp_path: Path) -> None:
    text = "model: pocket\ntarget_length: 1k\nlabels: {date: 2026-01-02}\nbudget:\n  max_tokens: 1_000_000  # at most\n"
    found = read_object(written(tmp_path, text))
    assert found == {
        "model": "pocket",
        "target_length": "1k",
        "labels": {"date": "2026-01-02"},
        "budget": {"max_tokens": 1_000_000},
    }
    assert SearchSpec.model_validate(found).target_length == 1024


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("spec.yaml", "model: pocket\nmodel: other\n", "once, but got 'model' twice"),
        ("spec.yml", "a: [1, 2\n", "the file must be YAML"),
        ("spec.yaml", "- 1\n", "must hold an object, but"),
        ("spec.yaml", "a: .nan\n", "JSON compliant"),
        ("spec.yaml", "1: a\n", "a name must be text, but got 1"),
        ("spec.yaml", "a: !!python/object/apply:os.getcwd []\n", "the file must be YAML"),
        ("spec.json", "model: pocket\n", "the file must be JSON"),
        ("spec.json", "", "the file must be JSON"),
    ],
)
def test_a_file_that_cannot_be_a_spec_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = written(tmp_path, text, name)
    with pytest.raises(BadInput, match="spec") as caught:
        read_object(path)
    assert path in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "tokens"), [("4096", 4096), ("32k", 32768), ("1M", 1_048_576), ("128 K", 131_072), ("65,536", 65_536)]
)
def test_lengths_as_they_are_spoken_of(text: str, tokens: int) -> None:
    assert tokens_of(text) == tokens


@pytest.mark.parametrize("text", ["", "k", "3.5k", "-1", "1e3", "32kk", "x" * 50])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(ValueError, match="a length must be a whole number of tokens, as 4096 or 32k, but got"):
        tokens_of(text)


def test_options_take_such_lengths(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["baselines", "--model", "pocket", "--target-length", "1k", "--name", "pi", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["target_length"] == 1024
    assert run(["baselines", "--model", "pocket", "--target-length", "1x"]) == 2
    assert "a length must be a whole number of tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "model"), [("search", SearchSpec), ("finetune", FinetuneSpec), ("evaluation", EvaluationSpec)]
)
def test_the_template_is_the_defaults_with_what_they_mean(
    capsys: pytest.CaptureFixture[str], kind: str, model: type[SearchSpec | FinetuneSpec | EvaluationSpec]
) -> None:
    assert run(["spec", kind]) == 0
    text = capsys.readouterr().out
    found = yaml.safe_load(text)
    assert set(found) == set(model.model_fields)
    needed = [name for name, field in model.model_fields.items() if field.is_required()]
    assert [name for name in needed if found[name] is not None] == []
    assert text.count("# needed") == len(needed)
    given = {name: value for name, value in found.items() if name not in needed}
    own: dict[str, object] = {"model": "pocket", "target_length": 1024}
    if kind == "finetune":
        own = {"search_id": "srch_1"}
    assert model.model_validate({**given, **own}) == model.model_validate(own)


def test_lengths_of_a_training_are_spoken_of_too() -> None:
    names = [name for name in FinetuneOptions.model_fields if name.endswith("_tokens") or name == "skipped_reach"]
    assert len(names) == 4
    found = FinetuneOptions.model_validate(dict.fromkeys(names, "2k"))
    assert {getattr(found, name) for name in names} == {2048}


def test_an_unknown_kind_of_spec_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["spec", "serach"]) == 2
    assert "KIND must be one of search, finetune, evaluation, but got 'serach'" in capsys.readouterr().err


def test_the_template_has_the_fields_of_what_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    lines = list(template(SearchSpec))
    assert any(line.startswith("  #   gaps: 2") for line in lines), "objective.skipped"
    assert any(line.startswith("#   steps: null") for line in lines), "finetune"


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"{ROPEWALK_VERSION}\n"


def test_a_shell_completes_commands_and_options(tmp_path: Path) -> None:
    """As at the tab key: bash takes the program's own completion, and asks it for what may follow."""
    program = tmp_path / "ropewalk"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m api.cli "$@"\n')
    program.chmod(0o755)
    script = """
        source <(ropewalk --show-completion)
        COMP_WORDS=(ropewalk sub) COMP_CWORD=1; _ropewalk_completion ropewalk; echo "${COMPREPLY[@]}"
        COMP_WORDS=(ropewalk plan --meas) COMP_CWORD=2; _ropewalk_completion ropewalk; echo "${COMPREPLY[@]}"
    """
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]]),
    }
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["submit", "--measure"], done.stderr
