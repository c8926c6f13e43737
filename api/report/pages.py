"""What the server's own pages share: they change nothing, run no script and load nothing else."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Sequence
from html import escape

from ropewalk.version import ROPEWALK_VERSION

AGAIN_SECONDS = 5  # until a browser asks again for what goes on


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML; it scrolls where a screen is narrower."""
    head = "".join(f'<th class="left" scope="col">{escape(name)}</th>' for name in names)
    cells = ("".join(f'<td class="left">{cell}</td>' for cell in row) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def page(title: str, body: str, *, style: str, moving: bool = False) -> str:
    """A whole document; `moving`: a browser is to ask for it again, and again."""
    common = importlib.resources.files("api.report").joinpath("page.css").read_text(encoding="utf-8")
    again = f'<meta http-equiv="refresh" content="{AGAIN_SECONDS}">' if moving else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"{again}<title>{escape(title)}</title><style>{common}{style}</style></head><body><main>"
        f"<h1>{escape(title)}</h1>{body}<p>Ropewalk {ROPEWALK_VERSION}</p></main></body></html>\n"
    )
