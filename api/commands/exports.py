"""Found factors in the forms that other programs load, and the files that jobs have left."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from api.commands import common
from api.console import note, print_json, print_line, print_table
from evaluation.models.user_path import is_directory, is_file, user_path
from ropewalk.client.errors import BadInput
from ropewalk.factors.exports.registry import EXPORTS, export
from ropewalk.factors.factor_file import FactorFile


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("factors")(factors)
    app.command("files")(files)


def factors(
    source: Annotated[str, typer.Argument(metavar="ID|FILE", help="A search's id, or a factor file.")],
    format: Annotated[str, typer.Option(help=f"{', '.join(EXPORTS.own)}, or one of an installed package.")] = "json",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: standard output.")] = None,
    model_gguf: Annotated[Path | None, typer.Option(help="For gguf: the model as a GGUF; it is not changed.")] = None,
    as_json: common.AsJson = False,
) -> None:
    """Export a search's winning factors or a factor file; standard error says what the format's consumer ignores."""
    if format not in EXPORTS:
        raise BadInput(f"--format must be one of {', '.join(EXPORTS)}, but got {format!r}")
    row = EXPORTS[format]
    if model_gguf is not None and row.write is not None:
        raise BadInput(f"--model-gguf is for --format gguf only, but got --format {format}")
    file = _factor_file(source)
    notes = row.all_notes(file)
    if row.write is None:
        output = _write_gguf(file, model_gguf, output)
    elif output is not None:
        common.write_text(output, export(file, format))
    if output is not None:
        print_json({"path": str(output), "notes": notes}) if as_json else print_line(str(output))
    elif as_json and format == "csv":
        print_json({"csv": export(file, format)})
    else:
        sys.stdout.write(export(file, format))
    for text in notes:
        note(text)


def files(
    job_id: common.JobId,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Copy them below this directory; default: list them.")
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """List the files that a job has left, or copy them from the server: a factor file, or a whole checkpoint."""
    with common.client() as client:
        if output is None:
            found = client.files(job_id)
            if as_json:
                print_json(found)
                return
            table = Table("name", Column("bytes", justify="right"), "sha256")
            for one in found.items:
                table.add_row(one.name, str(one.bytes), one.sha256)
            print_table(table)
            return
        try:
            paths = client.download(job_id, output)
        except OSError as error:
            raise BadInput(f"the output must be writable, but {error}") from error
    if as_json:
        print_json({"paths": [str(path) for path in paths]})
        return
    for path in paths:
        print_line(str(path))


def _factor_file(source: str) -> FactorFile:
    if is_file(Path(source)):
        return common.read_factor_file(source)
    with common.client() as client:
        return FactorFile.from_json(client.export(source))


def _write_gguf(file: FactorFile, model_gguf: Path | None, output: Path | None) -> Path:
    from finetune.output.gguf import write_gguf

    if output is None:
        raise BadInput("--format gguf holds the model's weights: say where to write it with -o OUTPUT.gguf")
    source = model_gguf or _own_gguf(file.model.name)
    try:
        write_gguf(file, source=source, output=output)
    except OSError as error:
        raise BadInput(f"the GGUF must be readable and the output writable, but {error}") from error
    return output


def _own_gguf(model: str) -> Path:
    """The only GGUF in the model's directory."""
    directory = user_path(model)
    found = sorted(directory.glob("*.gguf")) if is_directory(directory) else []
    if len(found) != 1:
        raise BadInput(
            "--format gguf needs the model as a GGUF: give --model-gguf MODEL.gguf, as llama.cpp's "
            f"convert_hf_to_gguf.py makes it, because the directory of model {model!r} holds {len(found) or 'none'}"
        )
    return found[0]
