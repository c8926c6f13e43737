"""`ropewalk demo`: a complete run on the pocket model."""

from pathlib import Path
from typing import Annotated

import typer

from api.commands import common
from api.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: HOME/demo.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="All randomness is derived from it.")] = 0,
    as_json: common.AsJson = False,
) -> int:
    """Search, validate, fine-tune and evaluate the pocket model over REST, against a server that this starts."""
    from api.demo.run import run_demo

    return run_demo(load_settings(), output=output, seed=seed, as_json=as_json)
