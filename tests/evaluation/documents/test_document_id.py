"""The id of a document says where it stands; its planned depth comes from that alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.documents.document_id import DocumentId
from evaluation.documents.factory import DocumentFactory, DocumentRequest, planned_depth
from evaluation.documents.needle import SPLITS, Split
from evaluation.errors import InvalidDocumentRequest


@given(
    split=st.sampled_from(SPLITS),
    seed=st.integers(0, 2**70),
    target_length=st.integers(1, 2**24),
    index=st.integers(0, 10**7),
)
def test_an_id_comes_back(split: Split, seed: int, target_length: int, index: int) -> None:
    identity = DocumentId(split=split, seed=seed, target_length=target_length, index=index)
    assert DocumentId.parse(str(identity)) == identity


@pytest.mark.parametrize(
    "text", ["", "d0", "search-0-1024", "test-0-1024-00000", "search-0-1024-00000-1", "search--1-1024-0"]
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidDocumentRequest, match="must read split-seed-length-index"):
        DocumentId.parse(text)


@pytest.mark.parametrize("split", SPLITS)
def test_a_needle_lies_near_its_planned_depth(factory: DocumentFactory, split: Split) -> None:
    length = 600
    documents = factory.build(DocumentRequest(target_length=length, count=24, seed=3, split=split))
    reach = 33 / (length / 2)  # 32 tokens and a rounded one, over a haystack that is at least half of the document
    for document in documents:
        assert abs(planned_depth(document.id) - document.depth) <= reach
    assert len({round(planned_depth(document.id), 9) for document in documents}) == 24
