"""What commands share: options, files, the client."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from api.settings import load_settings
from evaluation.models.source import POCKET
from evaluation.models.user_path import exists, is_directory, user_path
from ropewalk.client.errors import BadInput
from ropewalk.client.sync import Client
from ropewalk.client.token import local_token
from ropewalk.errors import InvalidFactorFile
from ropewalk.factors.factor_file import FactorFile
from ropewalk.reading.lengths import tokens_of
from ropewalk.reading.reader import strict_json
from ropewalk.wire.kinds import KINDS, JobAction
from workers.backends import BACKENDS

BACKEND_HELP = f"What scores, reads and generates: auto; {BACKENDS.described()}."
AsJson = Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")]
Wait = Annotated[bool, typer.Option("--wait", help="Show live progress until the job has ended.")]


def length(text: str, least: int = 1) -> int:
    """A length in tokens, as 4096 or 32k.

    Raises:
        typer.BadParameter: it is none, or below `least`.
    """
    try:
        tokens = tokens_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if tokens < least:
        raise typer.BadParameter(f"a length must be at least {least} tokens, but got {text}")
    return tokens


def original_length(text: str) -> int:
    """A length that something can be longer than by a factor: formulas divide by its logarithm."""
    return length(text, least=2)


TargetLength = Annotated[
    int | None, typer.Option(metavar="TOKENS", parser=length, help="L', as 32k or 32768.", show_default=False)
]
OriginalLength = Annotated[
    int | None,
    typer.Option(
        metavar="TOKENS",
        parser=original_length,
        help="L, as 8k or 8192; default: what the model serves.",
        show_default=False,
    ),
]


def any_of(words: Iterable[str]) -> str:
    """The words as a list to choose from: "a, b or c"."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def ids_of(action: JobAction) -> str:
    """The forms of ids of jobs that know `action`."""
    return any_of(f"{row.prefix}_..." for row in KINDS.values() if action in row.actions)


JobId = Annotated[str, typer.Argument(metavar="ID", help=f"The job's id: {ids_of('cancel')}")]
SearchId = Annotated[str, typer.Argument(metavar="ID", help="The search's id: srch_...")]
LabelOptions = Annotated[list[str] | None, typer.Option("--label", help="key=value; may be given several times.")]
Priority = Annotated[
    int | None,
    typer.Option(min=-100, max=100, help="Among jobs that wait, a greater one comes first. Default 0; above: admins."),
]
IdempotencyKey = Annotated[
    str | None, typer.Option("--idempotency-key", help="Submitting again with the same key returns the first job.")
]


def client() -> Client:
    """A client of the server that the settings name."""
    settings = load_settings()
    home = user_path(str(settings.home))
    return Client(settings.server_url, key=settings.key or local_token(settings.server_url, home))


def read_text(path: str) -> str:
    """A file's text; `-` is standard input.

    Raises:
        BadInput: the file cannot be read.
    """
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BadInput(f"the file must be readable, but {path} is not: {reason}") from error


def factors_to_send(path: str) -> dict[str, Any]:
    """A factor file as a spec has it; what is wrong with it is said with its name, before anything is sent.

    Raises:
        BadInput: the file cannot be read.
        InvalidFactorFile: it is no factor file.
    """
    text = read_text(path)
    factor_file_of(path, text)
    value = strict_json(text)
    assert isinstance(value, dict)  # a factor file is an object
    return value


def read_factor_file(path: str) -> FactorFile:
    """A factor file; what is wrong with it is said with its name.

    Raises:
        BadInput: the file cannot be read.
        InvalidFactorFile: it is no factor file.
    """
    return factor_file_of(path, read_text(path))


def factor_file_of(path: str, text: str) -> FactorFile:
    """What the text of the file at `path` says. Raises: InvalidFactorFile with its name."""
    try:
        return FactorFile.from_json(text)
    except InvalidFactorFile as error:
        raise InvalidFactorFile(f"{path} is no factor file: {error}", pointer=error.pointer) from error


def write_text(path: Path, text: str) -> None:
    """Write a file.

    Raises:
        BadInput: it cannot be written.
    """
    make_place(path)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"the output must be writable, but {path} is not: {error.strerror}") from error


def make_place(path: Path) -> None:
    """Make the directories above an output file; called early, a wrong path is reported before the work is done.

    Raises:
        BadInput: it cannot be, or a directory is where the file is to be.
    """
    if is_directory(path):
        raise BadInput(f"the output must be a file, but {path} is a directory")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"the output must be writable, but {path} is not: {error.strerror}") from error


def finite(option: str, value: float | None) -> float | None:
    """An option's number, or None where it was not given.

    Raises:
        BadInput: NaN or infinite, which JSON cannot say.
    """
    if value is not None and not math.isfinite(value):
        raise BadInput(f"{option} must be a finite number, but got {value}")
    return value


def labels_of(given: Sequence[str] | None) -> dict[str, str]:
    """--label options as a mapping.

    Raises:
        BadInput: not key=value.
    """
    labels: dict[str, str] = {}
    for text in given or ():
        key, separator, value = text.partition("=")
        if not (key and separator and value):
            raise BadInput(f"--label must be key=value, but got {text!r}")
        labels[key] = value
    return labels


def server_path(given: str | None) -> str | None:
    """A model or a corpus as the server finds it: what exists here by its absolute path, the rest as it is.

    The server has a working directory of its own, so a relative path would mean another file there.
    """
    return None if given is None else local_path(given)


def local_path(given: str) -> str:
    """A model or a corpus that exists here by its absolute path; the rest, "pocket" and Hub ids, as it is."""
    if given == POCKET:
        return given
    path, separator, column = given.partition("#")
    found = user_path(path)
    return f"{found.resolve()}{separator}{column}" if exists(found) else given


def put(spec: dict[str, Any], options: Mapping[str, object]) -> None:
    """Set each `a.b` of a spec to its option's value; options that were not given (None) change nothing.

    Raises:
        BadInput: the spec has something other than an object on the way.
    """
    for path, value in options.items():
        if value is not None:
            *way, name = path.split(".")
            _object_at(spec, way)[name] = value


def put_labels(spec: dict[str, Any], given: Sequence[str] | None) -> None:
    """Add the labels of options to those that a spec has.

    Raises:
        BadInput: one is not key=value, or the spec's are no object.
    """
    if given:
        _object_at(spec, ["labels"]).update(labels_of(given))


def _object_at(spec: dict[str, Any], way: Sequence[str]) -> dict[str, Any]:
    for part in way:
        inner = spec.setdefault(part, {})
        if not isinstance(inner, dict):
            raise BadInput(f"{part} must be an object in the spec, but got {inner!r}")
        spec = inner
    return spec
