"""NeedleDocument refuses what cannot be scored; keys belong to one split."""

from __future__ import annotations

import dataclasses
import pickle
import re

import pytest

from evaluation.documents.keys import keys_of, split_of_key
from evaluation.documents.needle import NEEDLE, QUESTION, SPLITS, NeedleDocument, stated_values
from evaluation.errors import EvaluationError, InvalidDocumentRequest, KeyNotSingleValued

TEXT = "Hay." + NEEDLE.format(key="river", value="1234567") + "Straw." + QUESTION.format(key="river", value="1234567")
DOCUMENT = NeedleDocument(
    id="validation-0-20-00000",
    text=TEXT,
    token_ids=tuple(range(20)),
    answer_spans=((13, 20),),
    depth=0.5,
    depths=(0.5,),
    keys=("river",),
    values=("1234567",),
    split="validation",
)


def test_a_document_travels_whole() -> None:
    assert pickle.loads(pickle.dumps(DOCUMENT)) == DOCUMENT
    assert DOCUMENT.answer_tokens == 7


@pytest.mark.parametrize(
    "spans",
    [((0, 7),), ((13, 21),), ((13, 13),), ((14, 13),), ((-7, -1),)],
    ids=["first", "past", "empty", "back", "neg"],
)
def test_spans_lie_within_the_document(spans: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(InvalidDocumentRequest, match="answer_spans must be"):
        dataclasses.replace(DOCUMENT, answer_spans=spans)


def test_spans_do_not_overlap() -> None:
    text = TEXT + NEEDLE.format(key="tree", value="7654321") + QUESTION.format(key="tree", value="7654321")
    two = dataclasses.replace(
        DOCUMENT,
        text=text,
        keys=("river", "tree"),
        values=("1234567", "7654321"),
        depths=(0.5, 0.7),
        answer_spans=((3, 10), (13, 20)),
    )
    assert two.answer_tokens == 14
    with pytest.raises(InvalidDocumentRequest, match="apart"):
        dataclasses.replace(two, answer_spans=((3, 14), (13, 20)))


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("Straw.", NEEDLE.format(key="river", value="7654321")),
        TEXT.replace("Straw.", "the magic  number\nfor River is 7654321"),
        TEXT.replace("Straw.", NEEDLE.format(key="river", value="1234567")),
        TEXT.replace("1234567", "1234568"),
        "Hay.",
    ],
    ids=["other value", "other spelling", "twice", "wrong value", "no needle"],
)
def test_a_key_has_one_value(text: str) -> None:
    with pytest.raises(KeyNotSingleValued, match="key 'river' of 'validation-0-20-00000'"):
        dataclasses.replace(DOCUMENT, text=text)


def test_a_key_is_asked_once() -> None:
    with pytest.raises(KeyNotSingleValued):
        dataclasses.replace(
            DOCUMENT,
            keys=("river", "river"),
            values=("1234567", "1234567"),
            depths=(0.5, 0.5),
            answer_spans=((3, 10), (13, 20)),
        )


@pytest.mark.parametrize(
    "changed",
    [{"keys": ()}, {"values": ("1", "2")}, {"depth": 0.4}, {"depth": 1.5, "depths": (1.5,)}, {"split": "test"}],
)
def test_the_parts_fit_together(changed: dict[str, object]) -> None:
    with pytest.raises(InvalidDocumentRequest, match="but got"):
        dataclasses.replace(DOCUMENT, **changed)  # type: ignore[arg-type]


def test_another_key_in_the_haystack_is_only_hay() -> None:
    other = dataclasses.replace(DOCUMENT, text=TEXT.replace("Straw.", NEEDLE.format(key="rivers", value="7654321")))
    assert stated_values(other.text, "rivers") == ("7654321",)


def test_keys_are_plain_words_of_one_split() -> None:
    sets = {split: keys_of(split) for split in SPLITS}
    assert all(re.fullmatch("[a-z]{3,9}", word) for words in sets.values() for word in words)
    assert all(split_of_key(word) == split for split, words in sets.items() for word in words)
    total = sum(map(len, sets.values()))
    assert len(set().union(*sets.values())) == total
    shares = {split: len(words) / total for split, words in sets.items()}
    assert shares == pytest.approx({"train": 0.5, "search": 0.25, "validation": 0.25}, abs=0.02)


def test_the_split_of_a_key_never_moves() -> None:
    # Documents already scored are about these words: a change here makes every stored score another score.
    assert [split_of_key(word) for word in ("river", "apple", "algorithm", "window")] == [
        "train",
        "train",
        "search",
        "train",
    ]


def test_keys_are_not_profane() -> None:
    assert not {"rape", "panty", "hoe"} & {word for split in SPLITS for word in keys_of(split)}


def test_every_error_has_its_own_code() -> None:
    kinds = EvaluationError.__subclasses__()
    codes = [kind.code for kind in kinds]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch("[A-Z_]+", code) for code in codes)
    assert all(issubclass(kind, (ValueError, LookupError)) for kind in kinds)
