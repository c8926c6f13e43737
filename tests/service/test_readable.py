"""Files that a spec may name: none outside the roots, however they are written."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from evaluation.models.source import resolve_model
from service.errors import PathNotAllowed
from service.readable import Readable, named_files, read_as
from service.specs.base import Spec
from service.specs.evaluation import EvaluationSpec
from service.specs.finetune import FinetuneSpec
from service.specs.inspection import InspectionSpec
from service.specs.search import SearchSpec
from tests.helpers.http_server import factor_file
from tests.helpers.tiny_llama import make_factor_file

#: Fields of text that make nothing be read.
NO_FILES = {"search_id", "finetune_id", "start_from", "name", "tasks", "harness"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a model, a corpus, and links out of it; beside it a secret."""
    root = tmp_path / "root"
    (root / "model").mkdir(parents=True)
    (root / "text.txt").write_text("text")
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "up").symlink_to(tmp_path)
    (root / "circle").symlink_to(root / "circle")
    return root


def _search(**fields: Any) -> SearchSpec:
    return SearchSpec.model_validate({"model": "pocket", "target_length": 1024, **fields})


def _evaluation(**fields: Any) -> EvaluationSpec:
    return EvaluationSpec.model_validate({"target_length": 1024, **fields})


def _finetune(**fields: Any) -> FinetuneSpec:
    return FinetuneSpec.model_validate({"search_id": "srch_x", **fields})


def _factors_for(model: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(factor_file().to_json())
    value["model"]["name"] = model
    return value


_WITH: dict[str, Callable[[str], Spec]] = {
    "/model": lambda text: _search(model=text),
    "/objective/corpus": lambda text: _search(objective={"corpus": text}),
    "/finetune/corpus": lambda text: _search(finetune={"corpus": text}),
    "/settings/corpus": lambda text: _finetune(settings={"corpus": text}),
    "/corpus": lambda text: _evaluation(corpus=text),
    "/squad": lambda text: _evaluation(squad=text),
    "/hotpotqa": lambda text: _evaluation(hotpotqa=text),
    "/checkpoint": lambda text: _evaluation(checkpoint=text),
    "/harness_path": lambda text: _evaluation(harness_path=text),
    "/factors/model/name": lambda text: _finetune(search_id=None, factors=_factors_for(text)),
}
POINTERS = tuple(_WITH)


def _spec_with(pointer: str, text: str) -> Spec:
    return _WITH[pointer](text)


@pytest.mark.parametrize("pointer", POINTERS)
def test_every_field_is_looked_at(root: Path, pointer: str) -> None:
    readable = Readable(roots=(root,))
    readable.check(_spec_with(pointer, str(root / "text.txt")))
    with pytest.raises(PathNotAllowed) as refused:
        readable.check(_spec_with(pointer, "/etc/hostname"))
    assert refused.value.pointer == pointer
    Readable(roots=None).check(_spec_with(pointer, "/etc/hostname"))


@pytest.mark.parametrize("pointer", ["/model", "/corpus", "/squad"])
@pytest.mark.parametrize(
    "text",
    [
        "{root}/../secret.txt",
        "{root}/link.txt",
        "{root}/up/secret.txt",
        "{root}/circle",
        "{root}-beside/model",
        "{root}/../nothing",
        "secret/../../../etc/hostname",
        "./model",
        "~/model",
        "~nobody-of-that-name/model",
        "/",
        "/proc/self/environ",
    ],
)
def test_no_spelling_leads_out(root: Path, pointer: str, text: str) -> None:
    with pytest.raises(PathNotAllowed):
        Readable(roots=(root,)).check(_spec_with(pointer, text.format(root=root)))


def test_a_model_to_inspect_is_looked_at(root: Path) -> None:
    readable = Readable(roots=(root,))
    for model in ("pocket", "owner/model", str(root / "model")):
        readable.check(InspectionSpec(model=model))
    with pytest.raises(PathNotAllowed):
        readable.check(InspectionSpec(model="/etc"))


def test_a_column_does_not_hide_a_path(root: Path) -> None:
    readable = Readable(roots=(root,))
    readable.check(_evaluation(corpus=f"{root}/text.jsonl#text"))
    for corpus in (f"{root}/../secret.jsonl#text", f"{root}/up/#x/../../secret.jsonl", "/etc/x.jsonl#/../../../{root}"):
        with pytest.raises(PathNotAllowed):
            readable.check(_evaluation(corpus=corpus))


def test_names_that_are_no_paths(root: Path) -> None:
    for spec in (
        _search(),
        _search(model="owner/model"),
        _search(model="model"),
        _search(objective={"corpus": "builtin:pydoc"}),
        _search(finetune={}),
        _evaluation(),
        _finetune(),
    ):
        Readable(roots=()).check(spec)


def test_the_model_of_a_factor_file_counts_where_it_is_used() -> None:
    factors = _factors_for("/elsewhere")
    Readable(roots=()).check(_finetune(search_id=None, factors=factors, model="pocket"))
    Readable(roots=()).check(_evaluation(factors=factors, model="pocket"))
    for spec in (_finetune(search_id=None, factors=factors), _evaluation(factors=factors)):
        with pytest.raises(PathNotAllowed):
            Readable(roots=()).check(spec)


def test_a_refusal_does_not_tell_what_exists(tmp_path: Path, root: Path) -> None:
    told = []
    for name in ("secret.txt", "nothing.txt"):
        with pytest.raises(PathNotAllowed) as refused:
            Readable(roots=(root,)).check(_evaluation(corpus=str(tmp_path / name)))
        told.append(str(refused.value).replace(name, "NAME"))
    assert told[0] == told[1]
    assert f"a built-in corpus or a path under the server's roots (ROPEWALK_ROOTS: {root})" in told[0]


def test_every_field_of_text_is_marked_or_known_to_name_no_file() -> None:
    """Whoever adds a path to a spec must mark it, or it would be read from everywhere."""
    unmarked = {
        name
        for spec in _specs(SearchSpec) | _specs(FinetuneSpec) | _specs(EvaluationSpec) | _specs(InspectionSpec)
        for name, field in spec.model_fields.items()
        if _holds_text(field.annotation) and read_as(field) is None
    }
    assert unmarked == NO_FILES
    assert {pointer for text in POINTERS for pointer, _, _ in named_files(_spec_with(text, "/x"))} >= set(POINTERS)


def _specs(spec: type[Spec]) -> set[type[Spec]]:
    inner = [
        member
        for field in spec.model_fields.values()
        for member in (field.annotation, *get_args(field.annotation))
        if isinstance(member, type) and issubclass(member, Spec)
    ]
    return {spec}.union(*(_specs(one) for one in inner))


def _holds_text(annotation: Any) -> bool:
    """Whether free text may be anywhere in a value of this type; labels are text that is only shown."""
    if annotation is str:
        return True
    if getattr(annotation, "__origin__", None) is dict:
        return False
    return any(_holds_text(member) for member in get_args(annotation) if not isinstance(member, str))


def test_the_model_that_a_checkpoint_names_counts_where_it_is_used(root: Path) -> None:
    file = make_factor_file(resolve_model("pocket"), target_length=512, name="ntk")
    elsewhere = dataclasses.replace(file, model=dataclasses.replace(file.model, name="/elsewhere"))
    for name, one in (("good", file), ("bad", elsewhere)):
        (root / name).mkdir()
        (root / name / "factors.json").write_text(one.to_json())
    readable = Readable(roots=(root,))
    readable.check(_evaluation(checkpoint=str(root / "good"), model=None))
    readable.check(_evaluation(checkpoint=str(root / "bad"), model="pocket"))
    with pytest.raises(PathNotAllowed, match="/elsewhere"):
        readable.check(_evaluation(checkpoint=str(root / "bad"), model=None))


def test_a_checkpoint_whose_factors_never_end_is_not_waited_for(root: Path) -> None:
    (root / "fifo").mkdir()
    os.mkfifo(root / "fifo" / "factors.json")
    for directory in ("fifo", "a" * 300):
        Readable(roots=(root,)).check(_evaluation(checkpoint=str(root / directory), model=None))
