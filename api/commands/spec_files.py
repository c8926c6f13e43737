"""Specs in files: JSON or YAML, and a template of one with what every field means."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args

import typer
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from api.commands.common import any_of, read_text
from api.console import print_line
from ropewalk.client.errors import BadInput
from ropewalk.reading.reader import strict_json
from service.specs.evaluation import EvaluationSpec
from service.specs.finetune import FinetuneSpec
from service.specs.search import SearchSpec

SpecFile = Annotated[str | None, typer.Argument(metavar="[SPEC]", help="A spec: .json, .yaml, - for stdin.")]
YAML = (".yaml", ".yml")
_SPECS: dict[str, type[BaseModel]] = {"search": SearchSpec, "finetune": FinetuneSpec, "evaluation": EvaluationSpec}
_MUST = "# needed"
_COLUMN = 44


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("spec")(spec)


def read_object(path: str) -> dict[str, Any]:
    """The object in a JSON file, a YAML one (.yaml, .yml), or standard input (-), which may be either.

    Raises:
        BadInput: not readable, neither, no object; NaN, Infinity or a key twice in one object.
    """
    text = read_text(path)
    is_yaml = Path(path).suffix.lower() in YAML or (path == "-" and not text.lstrip().startswith("{"))
    try:
        value = _from_yaml(text) if is_yaml else strict_json(text)
    except ValueError as error:
        kind = "YAML" if is_yaml else "JSON"
        raise BadInput(f"the file must be {kind}, but {path} is not: {error}") from error
    if value is None:
        raise BadInput(f"the file must hold an object, but {path} is empty: ropewalk spec prints one to fill in")
    if not isinstance(value, dict):
        raise BadInput(f"the file must hold an object, but {path} holds a {type(value).__name__}")
    return value


class _Loader(yaml.SafeLoader):
    """YAML whose values JSON can say: no dates, no key twice."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[str, Any]:
    names = [loader.construct_object(key) for key, _ in node.value]
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"a name must be text, but got {name!r}")
        if names.count(name) > 1:
            raise ValueError(f"a name must be in an object once, but got {name!r} twice")
    return {name: loader.construct_object(value, deep=True) for name, (_, value) in zip(names, node.value, strict=True)}


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def _from_yaml(text: str) -> object:
    try:
        value = yaml.load(text, _Loader)
        # There and back: what JSON has no word for is refused here, with the file's name, and not by the server.
        return strict_json(json.dumps(value, allow_nan=False))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def spec(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"{any_of(_SPECS)}.")] = "search",
) -> None:
    """Print a spec to fill in, as YAML: every field with its default and what it means."""
    if kind not in _SPECS:
        raise BadInput(f"KIND must be one of {', '.join(_SPECS)}, but got {kind!r}")
    for line in template(_SPECS[kind]):
        print_line(line)


def template(model: type[BaseModel], *, indent: str = "") -> Iterator[str]:
    """The lines of a YAML file with every field of `model`; those that must be given are empty."""
    for name, field in model.model_fields.items():
        about = f"# {field.description}" if field.description else ""
        inner = _model_of(field.annotation)
        default = field.get_default(call_default_factory=True)
        if inner is not None and default not in (None, PydanticUndefined):
            yield f"{indent}{name}:".ljust(_COLUMN if about else 0) + about
            yield from template(inner, indent=f"{indent}  ")
        elif default is PydanticUndefined:
            yield f"{indent}{name}:".ljust(_COLUMN) + (about.replace("#", f"{_MUST};", 1) or _MUST)
        else:
            yield f"{indent}{name}: {_plain(default)}".ljust(_COLUMN if about else 0) + about
            if inner is not None:
                yield from (f"{indent}#   {line.lstrip()}" for line in template(inner))


def _model_of(annotation: object) -> type[BaseModel] | None:
    """The one model that a field holds, if it holds one; of alternatives, if the others are null."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    models = [_model_of(one) for one in get_args(annotation) if one is not NoneType]
    return models[0] if len(models) == 1 else None


def _plain(value: object) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value)
