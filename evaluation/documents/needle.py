"""What a needle document is: a haystack with needles in it and, at its end, one question for each of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from evaluation.documents.skipping import Jump, check_jumps
from evaluation.errors import InvalidDocumentRequest, KeyNotSingleValued

Split = Literal["search", "validation", "train"]
SPLITS: tuple[Split, ...] = get_args(Split)

STATEMENT = "\nThe magic number for {key} is {value}"
NEEDLE = STATEMENT + ".\n"
QUESTION_HEAD = "\nQuestion: What is the magic number for {key}?"
QUESTION = QUESTION_HEAD + STATEMENT  # the value in a question is the answer: teacher-forced, scored token by token
VALUE_DIGITS = 7


def check_split(split: str) -> None:
    """Raise InvalidDocumentRequest unless `split` is one of SPLITS."""
    if split not in SPLITS:
        raise InvalidDocumentRequest(f"split must be one of {', '.join(SPLITS)}, but got split={split!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class NeedleDocument:
    """One document of exactly the target length, or of fewer tokens whose positions jump so far.

    text: decode(token_ids), BOS spelled out where there is one. token_ids decide; text is for readers.
    answer_spans: [start, end) into token_ids, one per question, in the order asked; they cover the value's tokens only.
    depth: the first asked needle's start in haystack tokens, over the haystack's length; 0 is the beginning. In a
    document with jumps both are counted in positions.
    depths, keys, values: one per needle, in the order asked.
    jumps: the positions that are left out before tokens; none in a full document.

    Raises KeyNotSingleValued when the text does not state exactly one number for each key, once as a needle and once
    as the answer; InvalidDocumentRequest when the parts do not fit together.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    answer_spans: tuple[tuple[int, int], ...]
    depth: float
    depths: tuple[float, ...]
    keys: tuple[str, ...]
    values: tuple[str, ...]
    split: Split
    jumps: tuple[Jump, ...] = ()

    def __post_init__(self) -> None:
        check_split(self.split)
        self._check_counts()
        self._check_spans()
        self._check_depths()
        self._check_keys()
        check_jumps(len(self.token_ids), self.jumps)

    @property
    def length(self) -> int:
        """Positions that it reaches over: a model must serve as many tokens."""
        return len(self.token_ids) + sum(size for _, size in self.jumps)

    @property
    def answer_tokens(self) -> int:
        """How many tokens are scored: the document's weight in a mean."""
        return sum(end - start for start, end in self.answer_spans)

    def _check_counts(self) -> None:
        counts = {len(self.answer_spans), len(self.depths), len(self.keys), len(self.values)}
        if len(counts) != 1 or not self.keys:
            raise InvalidDocumentRequest(
                "a document must have as many answer_spans, depths, keys and values as needles, at least one, but got "
                f"{len(self.answer_spans)}, {len(self.depths)}, {len(self.keys)} and {len(self.values)} in {self.id!r}"
            )

    def _check_spans(self) -> None:
        # Starts at 1: the token at 0 is predicted by nothing.
        edge = 1
        for start, end in self.answer_spans:
            if not edge <= start < end <= len(self.token_ids):
                raise InvalidDocumentRequest(
                    f"answer_spans must be non-empty, in order, apart and within [1, {len(self.token_ids)}], "
                    f"but got {self.answer_spans} in {self.id!r}"
                )
            edge = end

    def _check_depths(self) -> None:
        if not all(0.0 <= depth <= 1.0 for depth in self.depths) or self.depth != self.depths[0]:
            raise InvalidDocumentRequest(
                f"depths must be within [0, 1] and depth the first of them, but got depth={self.depth}, "
                f"depths={self.depths} in {self.id!r}"
            )

    def _check_keys(self) -> None:
        for key, value in zip(self.keys, self.values, strict=True):
            stated = stated_values(self.text, key)
            if self.keys.count(key) != 1 or stated != (value, value):
                raise KeyNotSingleValued(
                    f"each key must have one value, stated once as a needle and once as the answer, but key {key!r} "
                    f"of {self.id!r} with value {value!r} is stated as {stated[:5]}"
                )


def stated_values(text: str, key: str) -> tuple[str, ...]:
    """Every number that `text` states for `key`, in the order of the text; spaces and letter case do not matter."""
    words = rf"the\s+magic\s+number\s+for\s+{re.escape(key)}\s+is\s+([0-9]+)"
    return tuple(re.findall(words, text, flags=re.IGNORECASE))
