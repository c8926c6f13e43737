"""Commands that need no service."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from api.__main__ import main
from api.cli import run
from evaluation.models.fitting import check_model
from evaluation.models.source import model_sha256, resolve_model
from ropewalk.factors.factor_file import FactorFile
from search_space.candidates.baselines import BASELINE_NAMES, baseline

POCKET = ["--model", "pocket", "--target-length", "512"]
LONG_NAME = "x" * 5_000  # no file system takes it


def _json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    told = capsys.readouterr()
    assert told.out.count("\n") == 1, told.out
    value: dict[str, Any] = json.loads(told.out)
    return value


def test_baselines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["baselines", "--model", "pocket", "--target-length", "1024", "--json"]) == 0
    told = _json(capsys)
    assert tuple(told["baselines"]) == BASELINE_NAMES
    assert (told["num_pairs"], told["original_max_position_embeddings"]) == (16, 256)
    assert told["baselines"]["pi"]["long_factor"] == [4.0] * 16
    assert told["baselines"]["yarn"]["own_attention_factor"] > 1
    assert run(["baselines", "--model", "pocket", "--target-length", "1024", "--critical-pair", "3", "--json"]) == 0
    moved = _json(capsys)["baselines"]
    assert moved["ntk_critical"]["long_factor"][3] == 4.0
    assert moved["ntk"] == told["baselines"]["ntk"]


def test_a_shorter_original_length(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["baselines", *POCKET, "--original-length", "128", "--json"]) == 0
    told = _json(capsys)
    assert told["original_max_position_embeddings"] == 128
    assert told["baselines"]["pi"]["long_factor"] == [4.0] * 16
    assert run(["needles", *POCKET, "--documents", "1", "--original-length", "128"]) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_a_baseline_as_a_factor_file_and_its_exports(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "yarn.json"
    assert run(["baselines", *POCKET, "--name", "yarn", "-o", str(path)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{path}\n"
    assert "--attention-factor 1.06931" in told.err, "what the paper has is said, not taken"
    file = FactorFile.from_json(path.read_text())
    source = resolve_model("pocket")
    assert (file.attention_factor, file.target_length, file.search) == (1.0, 512, None)
    assert file.model.sha256 == model_sha256(source)
    assert file.scaling.factors == baseline("yarn", source.rope, 512).scaling.factors
    check_model(source, file)
    exported = tmp_path / "rope.json"
    assert run(["factors", str(path), "--format", "hf", "-o", str(exported)]) == 0
    assert json.loads(exported.read_text())["rope_parameters"]["long_factor"] == list(file.long_factor.values)
    capsys.readouterr()
    assert run(["factors", str(path), "--format", "vllm"]) == 0
    assert json.loads(capsys.readouterr().out)["max_position_embeddings"] == 512


def test_a_baselines_file_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["baselines", *POCKET, "--name", "yarn_critical", "--critical-pair", "7", "-o", "-"]
    assert run([*arguments, "--attention-factor", "1.25"]) == 0
    told = capsys.readouterr()
    file = FactorFile.from_json(told.out)
    assert (file.attention_factor, file.critical_pair, told.err) == (1.25, 7, "")
    assert run(["baselines", *POCKET, "--name", "pi", "-o", "-"]) == 0
    assert capsys.readouterr().err == "", "the method has no attention factor of its own"


def test_one_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["baselines", *POCKET, "--name", "ntk", "--json"]) == 0
    assert list(_json(capsys)["baselines"]) == ["ntk"]
    assert run(["baselines", *POCKET, "--name", "ntk"]) == 0
    told = capsys.readouterr().out
    assert "ntk" in told
    assert "yarn" not in told


def test_a_model_without_weights_has_baselines_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = (resolve_model("pocket").path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    arguments = ["baselines", "--model", str(tmp_path), "--target-length", "512", "--name", "pi", "-o", "-"]
    assert run(arguments) == 0
    assert FactorFile.from_json(capsys.readouterr().out).model.sha256 is None


def test_baselines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["baselines", "--model", "pocket", "--target-length", "1024"]) == 0
    assert "mrrope_pro" in capsys.readouterr().out


def test_baselines_and_inspect_load_no_service() -> None:
    """What they load is the model's own code, without its weights."""
    code = (
        "import sys; from api.cli import run; "
        "code = run(['baselines', '--model', 'pocket', '--target-length', '1024', '--json']); "
        "code = code or run(['inspect', 'pocket']); "
        "heavy = {'ray', 'optuna', 'sqlalchemy', 'fastapi', 'matplotlib'} & set(sys.modules); "
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_needles_are_documents_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["needles", *POCKET, "--documents", "3", "--seed", "7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    documents = [json.loads(line) for line in lines]
    assert [set(document) for document in documents] == [{"id", "text", "token_ids", "answer_spans", "depth"}] * 3
    assert [len(document["token_ids"]) for document in documents] == [512] * 3
    for document in documents:
        for start, end in document["answer_spans"]:
            assert 0 < start < end <= 512
    output = tmp_path / "needles" / "n.jsonl"
    assert run(["needles", *POCKET, "--documents", "2", "--seed", "7", "-o", str(output), "--json"]) == 0
    assert output.read_text().splitlines() == lines[:2], "the same seed makes the same documents, in nested sets"


def test_needles_that_skip_positions_say_where(capsys: pytest.CaptureFixture[str]) -> None:
    skips = ["--skip-tokens", "100", "--skip-gaps", "3", "--skip-places", "anywhere"]
    assert run(["needles", *POCKET, "--documents", "2", *skips]) == 0
    for line in capsys.readouterr().out.splitlines():
        document = json.loads(line)
        assert document["id"].endswith("-skip100x3a")
        assert (len(document["token_ids"]), len(document["jumps"])) == (100, 3)
        assert 100 + sum(size for _, size in document["jumps"]) == 512
    assert run(["needles", *POCKET, "--documents", "1", "--skip-gaps", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["id"].endswith("-skip256x1h"), "L tokens, in the haystack"


@pytest.mark.parametrize("command", [["needles"], ["score", "--factors", "yarn"]])
@pytest.mark.parametrize(
    ("skips", "said"),
    [
        (["--skip-tokens", "512"], "must leave a position to each gap, but got tokens=512, gaps=2, target_length=512"),
        (["--skip-tokens", "0"], "must have tokens, but got tokens=0"),
        (["--skip-gaps", "17"], "gaps must be from 1 to 16, but got gaps=17"),
        (["--skip-places", "behind"], "one of haystack, anywhere, tail, but got 'behind'"),
        (["--skip-tokens", "20"], "skipped tokens must leave at least 8 tokens beside the needles and questions"),
        (["--skip-tokens", "57", "--skip-gaps", "16"], "gaps must fit between the tokens of the haystack"),
    ],
)
def test_documents_that_cannot_skip_so_are_refused_as_in_a_spec(
    command: list[str], skips: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, *POCKET, *skips, "--json"]) == 2
    problem = json.loads(capsys.readouterr().err)
    assert problem["code"] == "INVALID_DOCUMENT_REQUEST"
    assert said in problem["detail"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["baselines", "--model", "/no/such/model", "--target-length", "1024"], "MODEL_NOT_FOUND", "/no/such/model"),
        (["baselines", "--model", "pocket", "--target-length", "100"], "INVALID_TARGET_LENGTH", "target_length=100"),
        (["baselines", "--model", "pocket"], "BAD_INPUT", "target-length"),
        (["baselines", *POCKET, "--critical-pair", "99"], "INVALID_STRATEGY", "99"),
        (["baselines", *POCKET, "--name", "magic"], "INVALID_STRATEGY", "magic"),
        (["baselines", *POCKET, "-o", "-"], "BAD_INPUT", "--name must be given"),
        (["baselines", *POCKET, "--attention-factor", "1.1"], "BAD_INPUT", "-o is not given"),
        (["baselines", *POCKET, "--name", "pi", "-o", "-", "--attention-factor", "-1"], "BAD_INPUT", "positive"),
        (["baselines", *POCKET, "--name", "pi", "-o", "-", "--attention-factor", "inf"], "BAD_INPUT", "finite"),
        (["baselines", *POCKET, "--name", "pi", "-o", "/dev"], "BAD_INPUT", "is a directory"),
        (["baselines", *POCKET, "--original-length", "512"], "INVALID_ORIGINAL_LENGTH", "256, but got"),
        (["needles", *POCKET, "--original-length", "512"], "INVALID_ORIGINAL_LENGTH", "256, but got"),
        (["score", *POCKET, "--factors", "pi", "--original-length", "512"], "INVALID_ORIGINAL_LENGTH", "256, but got"),
        (["baselines", *POCKET, "--original-length", "1"], "BAD_INPUT", "original-length"),
        (["inspect"], "BAD_INPUT", "MODEL"),
        (["inspect", "/no/such/model"], "MODEL_NOT_FOUND", "/no/such/model"),
        (["inspect", LONG_NAME], "MODEL_NOT_FOUND", LONG_NAME),
        (["inspect", "pocket", "--target-length", "255"], "INVALID_TARGET_LENGTH", "target_length=255"),
        (["inspect", "pocket", "--target-length", "0"], "BAD_INPUT", "target-length"),
        (["inspect", "pocket", "--original-length", "512"], "INVALID_ORIGINAL_LENGTH", "256, but got"),
        (["needles", *POCKET, "--split", "secret"], "BAD_INPUT", "secret"),
        (["needles", *POCKET, "--corpus", "/no/such/file.txt"], "CORPUS_NOT_FOUND", "/no/such/file.txt"),
        (["needles", *POCKET, "--documents", "0"], "BAD_INPUT", "documents"),
        (["score", *POCKET, "--factors", "hope"], "BAD_INPUT", "yarn"),
        (["score", "--model", "pocket", "--target-length", "9", "--factors", "pi"], "INVALID_DOCUMENT_REQUEST", "256"),
        (["score", *POCKET, "--factors", "pi", "--backend", "abacus"], "INVALID_SCORER_SETTINGS", "abacus"),
        (["submit", "--model", "pocket"], "BAD_INPUT", "--target-length"),
        (["submit", "/no/such/spec.json"], "BAD_INPUT", "/no/such/spec.json"),
        (["submit", "pyproject.toml"], "BAD_INPUT", "must be JSON"),
        (["submit", *POCKET, "--attention-factor", "nan"], "BAD_INPUT", "--attention-factor must be a finite number"),
        (["submit", *POCKET, "--attention-factor", "1e400"], "BAD_INPUT", "--attention-factor must be a finite number"),
        (["submit", *POCKET, "--idempotency-key", "é"], "BAD_INPUT", "must be printable ASCII, but got 'é'"),
        (["submit", "--model", "\udcff", "--target-length", "512"], "BAD_INPUT", "must be Unicode text"),
        (["list", "--label", "\udcff=1"], "BAD_INPUT", "must be text that HTTP can carry"),
        (["finetune", "--search", "srch_1", "--learning-rate", "inf"], "BAD_INPUT", "--learning-rate must be a finite"),
        (["evaluate", "--threshold", "nan"], "BAD_INPUT", "--threshold must be a finite number, but got nan"),
        (["score", *POCKET, "--factors", "pi", "--attention-factor", "nan"], "BAD_INPUT", "must be a finite number"),
        (
            ["score", *POCKET, "--factors", "pi", "--attention-factor", "0"],
            "BAD_INPUT",
            "must be positive",
        ),
        (
            ["score", "--model", "pocket", "--factors", "pi"],
            "BAD_INPUT",
            "--target-length must be given",
        ),
        (["score", *POCKET, "--factors", LONG_NAME], "BAD_INPUT", "must be a file or one of"),
        (["factors", LONG_NAME], "BAD_INPUT", "srch_"),
        (["merge", LONG_NAME, "-o", LONG_NAME], "BAD_INPUT", "too long"),
        (["baselines", "--model", "~nobody-here/x", "--target-length", "512"], "MODEL_NOT_FOUND", "~nobody-here/x"),
        (["needles", *POCKET, "--corpus", LONG_NAME], "CORPUS_NOT_FOUND", LONG_NAME),
        (["demo", "-o", "pyproject.toml"], "BAD_INPUT", "must be a directory"),
        (["keys", "create", ""], "BAD_INPUT", "must be printable and not empty"),
        (["show", "nonsense"], "BAD_INPUT", "srch_"),
        (["finetune"], "BAD_INPUT", "--search"),
        (["evaluate", "--lengths", "a,b"], "BAD_INPUT", "--lengths"),
        (["keys", "create", "x", "--scope", "everything"], "BAD_INPUT", "everything"),
        (["worker"], "BAD_INPUT", "RAY_ADDRESS"),
        (["dance"], "BAD_INPUT", "dance"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], code: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("ropewalk: ")
    assert told.err.count("\n") == 1
    assert said in told.err
    assert run([*arguments, "--json"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    problem = json.loads(told.err)
    assert said in problem["detail"]
    assert problem["code"] == code or code == "BAD_INPUT"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"seed": NaN}', "finite numbers only, but got NaN"),
        ('{"seed": 1e400}', "finite numbers"),
        ('{"seed": 1, "seed": 2}', "'seed' twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"seed": ' + "9" * 5_000 + "}", "4300 digits"),
        ('{"model": "\\ud800"}', "Unicode text"),
    ],
    ids=["nan", "infinite", "twice", "deep", "digits", "surrogate"],
)
@pytest.mark.parametrize("command", [["submit"], ["finetune", "--factors"], ["evaluate", "--factors"]])
def test_json_that_no_server_would_take(
    command: list[str], text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    assert run([*command, str(path)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert said in told or (command != ["submit"] and f"{path} is no factor file" in told)


def test_ctrl_c_while_the_program_is_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "api.cli", Interrupted("api.cli"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_broken_factor_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "factors.json"
    path.write_text('{"format": "ropewalk.factors/1"}')
    assert run(["score", *POCKET, "--factors", str(path), "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "INVALID_FACTOR_FILE"


def test_an_output_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run(["needles", *POCKET, "--documents", "1", "-o", str(tmp_path / "file" / "n.jsonl")]) == 2
    assert "must be writable" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    told = capsys.readouterr().out
    commands = ["serve", "controller", "worker", "submit", "list", "show", "watch", "cancel", "pause", "resume"]
    commands += [
        "factors",
        "inspect",
        "baselines",
        "needles",
        "score",
        "finetune",
        "evaluate",
        "demo",
        "db",
        "doctor",
        "keys",
    ]
    for command in commands:
        assert f"\n  {command} " in told, command
