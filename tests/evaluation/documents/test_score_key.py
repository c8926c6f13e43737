"""Score keys: equal exactly when all that decides a score is equal, and the same in every version."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.documents.needle import NEEDLE, QUESTION, NeedleDocument
from evaluation.documents.score_key import KEY_BYTES, candidate_digest, document_digest, score_key
from evaluation.errors import InvalidScores
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling


@dataclass(frozen=True, kw_only=True)
class Scored:
    """All that decides a score."""

    model_sha256: str = "5" * 64
    scorer: str = "0123456789abcdef"
    token_ids: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    answer_spans: tuple[tuple[int, int], ...] = ((3, 4), (4, 6))
    factors: tuple[float, ...] = (1.0, 1.5, 4.25)
    attention_factor: float = 1.0

    def key(self) -> bytes:
        return score_key(
            model_sha256=self.model_sha256,
            scorer=self.scorer,
            document=document_digest(document(self.token_ids, self.answer_spans)),
            candidate=candidate_digest(Scaling(RescaleFactors(self.factors), self.attention_factor)),
        )


def document(token_ids: tuple[int, ...], answer_spans: tuple[tuple[int, int], ...]) -> NeedleDocument:
    keys = tuple(f"key{'abcdefgh'[number]}" for number in range(len(answer_spans)))
    values = tuple(str(1000 + number) for number in range(len(answer_spans)))
    pairs = list(zip(keys, values, strict=True))
    return NeedleDocument(
        id="search-0",
        text="".join(pattern.format(key=key, value=value) for pattern in (NEEDLE, QUESTION) for key, value in pairs),
        token_ids=token_ids,
        answer_spans=answer_spans,
        depth=0.5,
        depths=(0.5,) * len(keys),
        keys=keys,
        values=values,
        split="search",
    )


WORDS = st.text("ab", min_size=1, max_size=3)
TOKENS = st.lists(st.integers(0, 2**31), min_size=2, max_size=6).map(tuple)
FACTORS = st.lists(st.floats(1.0, 100.0), min_size=1, max_size=4).map(lambda values: tuple(sorted(values)))
SCALES = st.floats(0.5, 2.0)


@st.composite
def scored(draw: st.DrawFn) -> Scored:
    """Words from few letters and spans from few places, so that examples are often alike but for one field."""
    token_ids = draw(TOKENS)
    ordered = sorted(draw(st.sets(st.integers(1, len(token_ids)), min_size=2, max_size=4)))
    return Scored(
        model_sha256=draw(WORDS),
        scorer=draw(WORDS),
        token_ids=token_ids,
        answer_spans=tuple(zip(ordered[::2], ordered[1::2], strict=False)),
        factors=draw(FACTORS),
        attention_factor=draw(SCALES),
    )


@given(
    scored(), scored(), st.sets(st.sampled_from(["model_sha256", "scorer", "document", "factors", "attention_factor"]))
)
def test_keys_are_equal_exactly_when_everything_is(one: Scored, other: Scored, taken: set[str]) -> None:
    fields = {"token_ids", "answer_spans"} if "document" in taken else set()
    changed = replace(one, **{name: getattr(other, name) for name in fields | taken - {"document"}})
    assert (changed.key() == one.key()) == (changed == one)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_sha256": "6" * 64},
        {"scorer": "0123456789abcdee"},
        {"model_sha256": "5" * 63, "scorer": "50123456789abcdef"},
        {"token_ids": (1, 2, 3, 4, 5, 7)},
        {"token_ids": (1, 2, 3, 4, 5, 6, 0)},
        {"token_ids": (1, 2, 3, 4, 5, 6 + 2**32)},
        {"answer_spans": ((3, 4), (5, 6))},
        {"answer_spans": ((3, 6),)},
        {"factors": (1.0, 1.5, 4.25 * (1 + 2**-52))},
        {"factors": (1.0, 1.5)},
        {"factors": (1.0, 1.5, 4.25, 4.25)},
        {"factors": (1.0, 1.0, 1.5), "attention_factor": 4.25},
        {"attention_factor": 1.0 + 2**-52},
    ],
)
def test_the_least_change_changes_the_key(changes: dict[str, object]) -> None:
    assert replace(Scored(), **changes).key() != Scored().key()  # type: ignore[arg-type]


def test_what_no_forward_pass_reads_is_not_in_the_key() -> None:
    one = document(Scored().token_ids, Scored().answer_spans)
    other = replace(one, id="validation-7", split="validation", text=one.text + " ", depth=0.1, depths=(0.1, 0.2))
    assert document_digest(one) == document_digest(other)


def test_a_whole_number_is_the_same_scale_however_it_is_written() -> None:
    assert replace(Scored(), attention_factor=1).key() == Scored().key()


@pytest.mark.parametrize("changes", [{"model_sha256": ""}, {"scorer": ""}])
def test_a_score_of_unknown_origin_has_no_key(changes: dict[str, str]) -> None:
    with pytest.raises(InvalidScores, match="needs the model's sha256 and the scorer's fingerprint"):
        replace(Scored(), **changes).key()  # type: ignore[arg-type]


def test_keys_never_change_between_versions() -> None:
    """Another value here forgets every score that anybody has cached: raise the version in the encoding and say so."""
    key = Scored().key()
    assert len(key) == KEY_BYTES
    assert key.hex() == "aa6bacdab9c6ccf14d642bc9c6eedc4b958262004857ee6ea8393437d59b9b1d"
