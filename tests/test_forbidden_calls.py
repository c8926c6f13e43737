"""What no room may do, read off the source: unpickle, or run code that comes with a model."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

ROOMS = ("api", "service", "workers", "finetune", "storage", "evaluation", "search_space", "sdk/ropewalk", "examples")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

#: Modules that make objects out of bytes, and with them whatever code the bytes name.
UNPICKLING = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}
TORCH_LOADERS = {"torch.load", "torch.jit.load", "torch.hub.load"}


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def _keyword(call: ast.Call, name: str) -> object:
    """The constant that a keyword is given; None where it is missing, its source text where it is no constant."""
    for keyword in call.keywords:
        if keyword.arg == name:
            value = keyword.value
            return value.value if isinstance(value, ast.Constant) else ast.unparse(value)
    return None


def _problems(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (f"imports {name}" for name in names if name.split(".")[0] in UNPICKLING)
    for name, call in _calls(tree):
        short = name.rpartition(".")[2]
        if name in TORCH_LOADERS and _keyword(call, "weights_only") is not True:
            yield f"{name} without weights_only=True"
        if _keyword(call, "allow_pickle") not in (None, False):
            yield f"{short} with allow_pickle"
        if _keyword(call, "trust_remote_code") not in (None, False):
            yield f"{short} may run code that comes with a model"
        if short == "read_pickle" or (short in ("eval", "exec") and "." not in name):
            yield f"calls {short}"
        if name.endswith("AutoModelForCausalLM.from_pretrained") and _keyword(call, "use_safetensors") is not True:
            yield f"{name} without use_safetensors=True"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled_and_no_code_of_models_is_run(path: Path) -> None:
    assert list(_problems(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from dill import loads",
        "np.load(x, allow_pickle=True)",
        "torch.load(x)",
        "f(trust_remote_code=yes)",
        "eval(x)",
        "AutoModelForCausalLM.from_pretrained(x)",
    ],
)
def test_the_rule_finds_what_it_forbids(code: str) -> None:
    assert len(list(_problems(ast.parse(code)))) == 1
