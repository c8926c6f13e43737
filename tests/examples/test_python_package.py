"""The examples of the package, from an installed wheel, beside files that have the names of the service's packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from evaluation.documents.corpus import load_corpus
from evaluation.models.source import resolve_model
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.found import Factors
from search_space.candidates.baselines import baseline
from storage.postgres.database import Database
from tests.helpers.clean_environment import installed_wheel, link_distributions
from tests.helpers.http_server import running_server
from tests.helpers.paths import POCKET, ROOMS, ROOT, SDK, STARTUP
from tests.helpers.searches import controller

EXAMPLES = ROOT / "examples" / "python"
NOTEBOOK = "ropewalk.ipynb"
QUICK_SPEC = {
    "objective": {"documents": 8, "validation_documents": 8},
    "budget": {"max_trials": 16},
    "scorer": {"backend": "analytic"},
}
QUICK = ("--backend", "analytic", "--max-trials", "16", "--documents", "8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def program(wheel: Path, tmp_path: Path) -> Path:
    """A user's directory: the examples, and files that break whoever imports the service's packages."""
    for path in EXAMPLES.iterdir():
        shutil.copy(path, tmp_path)
    for room in ROOMS:
        (tmp_path / f"{room}.py").write_text(f"raise RuntimeError('the user has a {room}.py, and it was imported')\n")
    return tmp_path


def _example(program: Path, wheel: Path, name: str, *arguments: str, url: str = "") -> subprocess.CompletedProcess[str]:
    """`python NAME` in the user's directory: its folder comes first on the path, then the wheel."""
    path = os.pathsep.join([str(STARTUP), str(wheel)])
    command = [sys.executable, str(program / name), *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=program,
        env={**os.environ, "PYTHONPATH": path, "ROPEWALK_URL": url},
    )


def _write_factors_and_text(program: Path) -> None:
    rope = resolve_model("pocket").rope
    scaling = baseline("ntk", rope, 1024).scaling
    identity = ModelIdentity.of(rope, name="pocket")
    (program / "factors.json").write_text(FactorFile.of(rope, scaling, model=identity, target_length=1024).to_json())
    (program / "book.txt").write_text(load_corpus(None).split_text("validation")[:8000])


def test_the_wheel_is_whole_typed_and_what_is_imported(wheel: Path, program: Path) -> None:
    assert (wheel / "ropewalk" / "py.typed").is_file()
    inside = {path.relative_to(SDK) for path in (SDK / "ropewalk").rglob("*.py")}
    assert {path.relative_to(wheel) for path in (wheel / "ropewalk").rglob("*.py")} == inside
    (program / "where.py").write_text("import ropewalk; print(ropewalk.__file__, ropewalk.Client.__name__)")
    assert _example(program, wheel, "where.py").stdout == f"{wheel / 'ropewalk' / '__init__.py'} Client\n"


def test_factors_are_found_with_a_server(database: Database, wheel: Path, program: Path, tmp_path: Path) -> None:
    with running_server(database) as server, controller(database, tmp_path / "home"):
        done = _example(program, wheel, "find.py", *QUICK, "--output", "one.json", url=server.url)
        assert done.returncode == 0, done.stderr
        many = _example(program, wheel, "watch_many.py", *QUICK, "--target-lengths", "384", "512", url=server.url)
        assert many.returncode == 0, many.stderr
    assert "succeeded" in done.stderr.splitlines()[-1], "the log of a progress bar"
    assert done.stdout.splitlines() == [repr(Factors.read(program / "one.json")), "one.json"]
    written = sorted(path.name for path in (program / "found").iterdir())
    assert written == ["384-hf.json", "384-vllm.json", "512-hf.json", "512-vllm.json"]
    assert "512: generation 0, NLL" in many.stdout


def test_the_notebook_runs(database: Database, wheel: Path, program: Path, tmp_path: Path) -> None:
    notebook = nbformat.reads((program / NOTEBOOK).read_text(), as_version=4)  # type: ignore[no-untyped-call]
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source += f"\nMODEL_DIRECTORY = {str(POCKET)!r}\nspec |= {QUICK_SPEC!r}"
    with running_server(database) as server, controller(database, tmp_path / "home"):
        path = os.pathsep.join([str(STARTUP), str(wheel)])
        environment = {**os.environ, "PYTHONPATH": path, "ROPEWALK_URL": server.url}
        NotebookClient(notebook, resources={"metadata": {"path": str(program)}}).execute(env=environment)
    answers = notebook.cells[-3].outputs[0].text.splitlines()
    assert answers[1].split(": ")[0].endswith("tokens, with factors")


def test_the_notebook_is_kept_as_it_ran() -> None:
    text = (EXAMPLES / NOTEBOOK).read_text()
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert kinds == {"stream", "execute_result", "display_data"}
    assert "with factors:  8100605" in text
    assert [place for place in ("/tmp", "/root", "/home", "file://") if place in text] == []


def test_beside_transformers_alone_factors_go_into_a_model_and_a_text_crosses(
    wheel: Path, program: Path, tmp_path: Path
) -> None:
    needed = ("numpy", "httpx", "httpx-sse", "pydantic", "torch", "transformers")
    alone = os.pathsep.join([str(link_distributions(needed, tmp_path / "alone")), str(wheel)])

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", *arguments]
        environment = {**os.environ, "PYTHONPATH": alone}
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=program, env=environment)

    others = "('optuna', 'ray', 'sqlalchemy', 'fastapi', 'scipy', 'matplotlib', 'vllm')"
    listed = run("-c", f"import importlib.util as found; print([n for n in {others} if found.find_spec(n)])")
    assert listed.stdout == "[]\n"
    _write_factors_and_text(program)
    done = run("apply.py", "--model", str(POCKET), "--factors", "factors.json", "--text", "book.txt")
    assert done.returncode == 0, done.stderr
    before, after, written = done.stdout.splitlines()
    assert float(after.split(": ")[1].split()[0]) > float(before.split(": ")[1].split()[0]) + 0.02
    assert len(written) > 10
    refused = run("-c", "import ropewalk\nropewalk.find_factors('pocket', 512)")
    assert "needs the service in the same environment" in refused.stderr.splitlines()[-1]


def test_a_program_with_a_service_of_its_own_is_told_what_is_in_the_way(wheel: Path, program: Path) -> None:
    (program / "service.py").write_text("")
    (program / "search.py").write_text(
        "import ropewalk\ntry:\n    ropewalk.find_factors('pocket', 512)\n"
        "except ropewalk.SearchRefused as error:\n    print(error)\n"
    )
    told = _example(program, wheel, "search.py").stdout
    assert told.startswith("find_factors needs the service's packages, but service.searches.offline:find cannot be")
    assert told.count("\n") == 1


def test_without_a_server_they_say_so(wheel: Path, program: Path) -> None:
    done = _example(program, wheel, "find.py", url="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "start one with: ropewalk serve" in done.stderr
    assert done.stderr.count("\n") == 1
