"""`ropewalk plot`: the pictures of a search as PNG files, drawn from what the server answers."""

from pathlib import Path
from typing import Annotated

import typer

from api.commands import common
from api.console import err, print_json, print_line
from ropewalk.client.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plot")(plot)


def plot(
    search_id: common.SearchId,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Default: here.")] = Path(),
    as_json: common.AsJson = False,
) -> None:
    """Draw a search, finished or not: factors, best so far, race by document, needles by depth. Prints the paths."""
    from api.drawing.search import draw_search  # matplotlib takes a second, and no other command needs it

    with common.client() as client:
        pictures = client.pictures(search_id)
    try:
        paths = draw_search(output, pictures)
    except OSError as error:
        raise BadInput(f"the output must be writable, but {output} is not: {error.strerror}") from error
    if as_json:
        print_json({"paths": {name: str(path) for name, path in paths.items()}})
        return
    for path in paths.values():
        print_line(str(path))
    if pictures.needles is None:
        err().print("no needles.png yet: it is drawn once the winner is chosen on held-out documents")
