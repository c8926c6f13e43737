"""Documents whose positions jump: decided by seed and index, whole where it matters, and another document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.documents.document_id import DocumentId
from evaluation.documents.factory import DocumentFactory, DocumentRequest, planned_depth
from evaluation.documents.needle import NeedleDocument
from evaluation.documents.score_key import document_digest
from evaluation.documents.skipping import GapPlaces, Jump, Skipping, positions_of
from evaluation.errors import InvalidDocumentRequest

TOKENS, TARGET = 256, 2048


def built(factory: DocumentFactory, count: int = 12, target: int = TARGET, **how: object) -> Sequence[NeedleDocument]:
    skipping = Skipping(**{"tokens": TOKENS, "gaps": 2, **how})  # type: ignore[arg-type]
    return factory.build(DocumentRequest(target_length=target, count=count, seed=3, needles=2, skipping=skipping))


@pytest.mark.parametrize("places", ["haystack", "anywhere"])
@pytest.mark.parametrize("gaps", [1, 2, 4])
def test_few_tokens_reach_the_target_length(factory: DocumentFactory, gaps: int, places: GapPlaces) -> None:
    for document in built(factory, gaps=gaps, places=places):
        positions = positions_of(len(document.token_ids), document.jumps)
        assert (len(document.token_ids), document.length, positions[0], positions[-1]) == (
            TOKENS,
            TARGET,
            0,
            TARGET - 1,
        )
        assert (np.diff(positions) >= 1).all()
        assert (np.diff(positions) > 1).sum() == len(document.jumps) == gaps


def test_a_gap_in_the_haystack_leaves_needles_and_questions_whole(factory: DocumentFactory) -> None:
    for document in built(factory, count=40, gaps=4):
        answers = document.answer_spans[0][0]
        assert all(token <= answers for token, _ in document.jumps)
        for key, value in zip(document.keys, document.values, strict=True):
            before, after = (factory.tokenizer.encode(text) for text in (f"for {key} is ", value))
            for token, _ in document.jumps:
                cut = factory.tokenizer.decode(document.token_ids[token - 3 : token + 3])
                assert f"{key} is" not in cut
                assert value not in cut
            assert before
            assert after


def test_an_index_is_the_same_document_at_any_count_and_another_at_another_seed(factory: DocumentFactory) -> None:
    assert built(factory, count=5) == built(factory)[:5]
    other = factory.build(
        DocumentRequest(target_length=TARGET, count=1, seed=4, needles=2, skipping=Skipping(tokens=TOKENS))
    )
    assert other[0].jumps != built(factory)[0].jumps


def test_the_text_is_that_of_a_full_document_of_as_many_tokens(factory: DocumentFactory) -> None:
    full = factory.build(DocumentRequest(target_length=TOKENS, count=12, seed=3, needles=2))
    assert [document.token_ids for document in built(factory)] == [document.token_ids for document in full]


def test_depth_is_stated_in_positions(factory: DocumentFactory) -> None:
    for document in built(factory, gaps=1):
        ((token, size),) = document.jumps
        start = round(document.depth * positions_of(TOKENS, document.jumps)[document.answer_spans[0][0]])
        assert document.depth == document.depths[0]
        assert start < token or start > size


def test_a_tail_is_the_questions_alone(factory: DocumentFactory) -> None:
    for document in built(factory, gaps=1, places="tail"):
        ((token, _),) = document.jumps
        assert factory.tokenizer.decode(document.token_ids[token:]).startswith(
            "\nQuestion: What is the magic number for"
        )
        assert str(DocumentId.parse(document.id)) == document.id
        assert document.id.endswith("-skip256x1t")


def test_the_id_says_how_it_skips(factory: DocumentFactory) -> None:
    document = built(factory, gaps=3, places="anywhere")[7]
    assert document.id == f"validation-3-{TARGET}-00007-skip{TOKENS}x3a"
    identity = DocumentId.parse(document.id)
    assert (str(identity), identity.skipping) == (document.id, Skipping(tokens=TOKENS, gaps=3, places="anywhere"))
    assert 0.0 <= planned_depth(document.id) < 1.0


def test_jumps_are_part_of_what_is_scored(factory: DocumentFactory) -> None:
    document = built(factory)[0]
    digests = {document_digest(replace(document, jumps=jumps)) for jumps in ((), ((9, 1),), ((9, 2),), ((8, 1),))}
    assert len(digests) == 4


@settings(deadline=None)
@given(
    length=st.integers(2, 60),
    sizes=st.lists(st.integers(1, 100), min_size=1, max_size=5),
    data=st.data(),
)
def test_positions_rise_by_what_is_left_out(length: int, sizes: list[int], data: st.DataObject) -> None:
    count = min(len(sizes), length - 1)
    tokens = sorted(data.draw(st.sets(st.integers(1, length - 1), min_size=count, max_size=count)))
    jumps: tuple[Jump, ...] = tuple(zip(tokens, sizes, strict=False))
    positions = positions_of(length, jumps)
    assert positions[-1] == length - 1 + sum(size for _, size in jumps)
    for token, size in jumps:
        assert positions[token] - positions[token - 1] == size + 1


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"tokens": TARGET}, f"leave a position to each gap, but got tokens={TARGET}, gaps=2, target_length={TARGET}"),
        ({"tokens": TARGET + 1}, "leave a position to each gap"),
        ({"tokens": 60}, "skipped tokens must leave at least 8 tokens"),
        ({"gaps": 0}, "gaps must be from 1 to 16, but got gaps=0"),
        ({"gaps": 17}, "gaps must be from 1 to 16, but got gaps=17"),
        ({"tokens": 0}, "must have tokens, but got tokens=0"),
        ({"places": "needle"}, "one of haystack, anywhere, tail, but got 'needle'"),
        ({"places": "tail"}, "gaps must be 1 with places='tail', but got gaps=2"),
    ],
)
def test_what_does_not_fit_is_refused(factory: DocumentFactory, how: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidDocumentRequest, match=words):
        built(factory, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("jumps", [((0, 1),), ((256, 1),), ((5, 0),), ((5, -3),), ((6, 1), (5, 1)), ((5, 1), (5, 1))])
def test_jumps_that_no_positions_have(factory: DocumentFactory, jumps: tuple[Jump, ...]) -> None:
    with pytest.raises(InvalidDocumentRequest, match="jumps must be forward, in order"):
        replace(built(factory)[0], jumps=jumps)
