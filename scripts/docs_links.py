"""What `make docs` makes of links that lead out of `docs/`: the site holds no other file of the repository."""

from __future__ import annotations

import re
from typing import Any

_OUTWARD = re.compile(r"\[(?P<text>(?:[^][]|\[[^]]*\])*)\]\((?P<path>(?:\.\./)+[^)\s]*)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with the path of such a file in the place of a link to it (mkdocs calls this for every page)."""
    depth = page.file.src_uri.count("/") + 1

    def named(link: re.Match[str]) -> str:
        if link["path"].count("../") < depth:
            return link[0]
        path = link["path"].removeprefix("../" * depth)
        return link["text"] if path.strip("/") in link["text"] else f"{link['text']} (`{path}`)"

    return _OUTWARD.sub(named, markdown)
