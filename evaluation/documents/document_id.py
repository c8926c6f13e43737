"""What the id of a needle document says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import get_args

from evaluation.documents.needle import SPLITS, Split
from evaluation.documents.skipping import GapPlaces, Skipping
from evaluation.errors import InvalidDocumentRequest

_PLACES: dict[str, GapPlaces] = {name[0]: name for name in get_args(GapPlaces)}
_SKIPPED = rf"(?:-skip([0-9]+)x([0-9]+)([{''.join(_PLACES)}]))?"
_PATTERN = re.compile(rf"({'|'.join(SPLITS)})-([0-9]+)-([0-9]+)-([0-9]+){_SKIPPED}")


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentId:
    """The coordinates of a document among those of one tokenizer and corpus.

    Its text reads split-seed-length-index, and of a skipped document how it skips: -skip256x2h.
    """

    split: Split
    seed: int
    target_length: int
    index: int
    skipping: Skipping | None = None

    def __str__(self) -> str:
        full = f"{self.split}-{self.seed}-{self.target_length}-{self.index:05d}"
        return full if self.skipping is None else f"{full}-{self.skipping}"

    @property
    def tokens(self) -> int:
        """How many the document has: what a pass over it costs."""
        return self.target_length if self.skipping is None else self.skipping.tokens

    @classmethod
    def parse(cls, text: str) -> DocumentId:
        """Back from the text.

        Raises:
            InvalidDocumentRequest: it is not a document's id.
        """
        found = _PATTERN.fullmatch(text)
        if found is None:
            raise InvalidDocumentRequest(f"a document's id must read split-seed-length-index, but got {text!r}")
        split = next(name for name in SPLITS if name == found[1])
        skipping = None
        if found[5] is not None:
            skipping = Skipping(tokens=int(found[5]), gaps=int(found[6]), places=_PLACES[found[7]])
        return cls(split=split, seed=int(found[2]), target_length=int(found[3]), index=int(found[4]), skipping=skipping)
