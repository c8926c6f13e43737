"""What the id of a needle document says."""

from __future__ import annotations

import re
from dataclasses import dataclass

from evaluation.documents.needle import SPLITS, Split
from evaluation.errors import InvalidDocumentRequest

_PATTERN = re.compile(rf"({'|'.join(SPLITS)})-([0-9]+)-([0-9]+)-([0-9]+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentId:
    """The coordinates of a document among those of one tokenizer and corpus. Its text reads split-seed-length-index."""

    split: Split
    seed: int
    target_length: int
    index: int

    def __str__(self) -> str:
        return f"{self.split}-{self.seed}-{self.target_length}-{self.index:05d}"

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
        return cls(split=split, seed=int(found[2]), target_length=int(found[3]), index=int(found[4]))
