"""Skipped rows: few tokens that reach far, documents apart and gaps crossed, and what does not fit."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from evaluation.documents.corpus import Corpus
from evaluation.errors import CorpusTooShort
from evaluation.models.source import ModelSource, load_tokenizer
from evaluation.models.tokenizer import Tokenizer
from finetune.config import FinetuneSettings
from finetune.data import MicroBatch, TrainingData
from finetune.errors import InvalidFinetuneSettings
from finetune.job import run_finetune
from finetune.language_model import LanguageModelLoss
from finetune.parallel import Ranks
from finetune.results import TrainingProgress
from finetune.rows import check_rows, row_tokens, training_tokens
from finetune.token_store import TokenStore, open_token_store
from ropewalk.factors.factor_file import FactorFile
from tests.helpers.tiny_llama import ORIGINAL_LENGTH

TARGET = 8 * ORIGINAL_LENGTH
SKIPPED = FinetuneSettings(
    long_documents_per_step=0, skipped_rows_per_step=4, short_sequences_per_step=1, short_tokens=ORIGINAL_LENGTH
)
TEXT = dataclasses.replace(SKIPPED, needle_fraction=0.0)
NEEDLES = dataclasses.replace(SKIPPED, needle_fraction=1.0, answer_weight=7.0)

Make = Callable[..., TrainingData]


@pytest.fixture(scope="module")
def tokenizer(tiny_source: ModelSource) -> Tokenizer:
    return load_tokenizer(tiny_source)


@pytest.fixture(scope="module")
def text(tokenizer: Tokenizer, corpus: Corpus) -> TokenStore:
    return open_token_store(tokenizer, corpus, None, None)


@pytest.fixture
def make(tokenizer: Tokenizer, corpus: Corpus, text: TokenStore) -> Make:
    def data(settings: FinetuneSettings, *, target: int = TARGET, sizes: list[int] | None = None) -> TrainingData:
        store = text if sizes is None else dataclasses.replace(text, ends=np.cumsum(sizes))
        return TrainingData(
            tokenizer, corpus, store, original_length=ORIGINAL_LENGTH, target_length=target, settings=settings
        )

    return data


def _skipped(data: TrainingData, step: int = 0) -> MicroBatch:
    (batch,) = (batch for batch in data.batches(step, Ranks()) if batch.kind == "skipped")
    return batch


def _positions(batch: MicroBatch) -> list[np.ndarray[Any, Any]]:
    """Of every document."""
    return [
        positions[end - length : end]
        for positions, row in zip(batch.position_ids, batch.document_lengths, strict=True)
        for length, end in zip(row, np.cumsum(row), strict=True)
    ]


@pytest.mark.parametrize("settings", [TEXT, NEEDLES, dataclasses.replace(SKIPPED, skipped_tail_share=0.5)])
@pytest.mark.parametrize("gaps", [1, 4])
def test_rows_of_the_original_length_reach_over_the_target_length(
    make: Make, settings: FinetuneSettings, gaps: int
) -> None:
    data = make(dataclasses.replace(settings, skipped_gaps=gaps))
    ends, counts = [], []
    for step in range(20):
        batch = _skipped(data, step)
        assert batch.window == "long"
        assert batch.token_ids.shape == (4, ORIGINAL_LENGTH)
        for positions in _positions(batch):
            steps = np.diff(positions)
            assert positions[0] == 0
            assert steps.min() >= 1
            ends.append(int(positions[-1]))
            counts.append(int((steps > 1).sum()))
    assert max(ends) == TARGET - 1
    assert 0.35 < np.mean(np.equal(ends, TARGET - 1)) < 0.65  # the half that reaches all the way
    assert min(ends) >= ORIGINAL_LENGTH  # past L, as the exported model switches
    assert min(ends) < TARGET / 2
    assert set(counts) == set(range(1, gaps + 1))


@pytest.mark.parametrize("settings", [TEXT, NEEDLES])
def test_an_endprompt_tail_stands_at_the_last_positions_and_the_head_at_the_first(
    make: Make, settings: FinetuneSettings, tokenizer: Tokenizer
) -> None:
    data = make(dataclasses.replace(settings, skipped_tail_share=1.0, skipped_full_reach_share=1.0))
    batch = _skipped(data)
    for tokens, positions in zip(batch.token_ids, _positions(batch), strict=True):
        (gap,) = np.flatnonzero(np.diff(positions) > 1) + 1
        assert np.array_equal(positions[:gap], np.arange(gap))
        assert np.array_equal(positions[gap:], np.arange(TARGET - (len(positions) - gap), TARGET))
        tail = tokenizer.decode(tokens[gap:].tolist())
        assert (len(positions) - gap == 20) if settings is TEXT else tail.startswith("\nQuestion: What is the magic")


def test_gaps_in_the_haystack_alone_leave_needle_and_question_whole(make: Make) -> None:
    data = make(dataclasses.replace(NEEDLES, skipped_places="haystack", skipped_gaps=8))
    for step in range(10):
        batch = _skipped(data, step)
        for tokens, positions, weights in zip(batch.token_ids, batch.position_ids, batch.weights, strict=True):
            answer = tokens[weights == 7.0]
            places = np.flatnonzero((np.lib.stride_tricks.sliding_window_view(tokens, 7) == answer).all(axis=1))
            assert len(places) == 2  # the needle and the question
            for place in places:
                assert (np.diff(positions[place - 4 : place + 7]) == 1).all()


def test_text_of_any_length_fills_a_row_document_by_document(make: Make) -> None:
    data = make(dataclasses.replace(TEXT, short_sequences_per_step=0, text_repeats=100.0), sizes=[40, 60, 33, 90] * 40)
    rows = [row for step in range(20) for row in _skipped(data, step).document_lengths]
    lengths = [length for row in rows for length in row]
    assert max(lengths) <= 90
    assert min(lengths) >= 32
    assert max(len(row) for row in rows) > 1
    for positions in _positions(_skipped(data)):
        assert ORIGINAL_LENGTH <= positions[-1] < TARGET


def test_text_too_short_for_a_gap_is_refused_and_the_message_says_what_would_do(make: Make) -> None:
    with pytest.raises(
        CorpusTooShort, match=r"the skipped documents ask for .* in documents of at least 32, but corpus"
    ):
        make(dataclasses.replace(TEXT, short_sequences_per_step=0), sizes=[31] * 5000)
    with pytest.raises(CorpusTooShort, match=r"the long documents ask for .* of at least 1,024"):
        make(dataclasses.replace(TEXT, long_documents_per_step=1, skipped_loss_share=0.3), sizes=[90] * 5000)
    with pytest.raises(CorpusTooShort, match=r"the short documents ask for .* at least 32, but"):
        make(TEXT, sizes=[31] * 5000)


def test_other_rows_do_not_change_by_it(make: Make) -> None:
    plain = make(FinetuneSettings(), target=320)
    beside = make(FinetuneSettings(skipped_rows_per_step=2, skipped_loss_share=0.2), target=320)
    for left, right in zip(plain.batches(3, Ranks()), beside.batches(3, Ranks()), strict=False):
        assert left.kind == right.kind
        assert np.array_equal(left.token_ids, right.token_ids)


@pytest.fixture(params=["documents", "own"])
def loss(tiny_trainable: PreTrainedModel, request: pytest.FixtureRequest) -> LanguageModelLoss:
    """With the attention of `evaluation.architecture.attention`, and with the model's own."""
    loss = LanguageModelLoss(tiny_trainable)
    if request.param == "own":
        tiny_trainable.set_attn_implementation("sdpa")
        loss.packs = False
    return loss


def _of_token(loss: LanguageModelLoss, batch: MicroBatch, token: int, changed: int | None = None) -> float:
    """The loss of one token of the first row, when the one at `changed` is another."""
    tokens, weights = batch.token_ids.copy(), np.zeros_like(batch.weights)
    weights[0, token] = 1.0
    if changed is not None:
        tokens[0, changed] = (tokens[0, changed] + 1) % 400
    with torch.no_grad():
        return float(loss(dataclasses.replace(batch, token_ids=tokens, weights=weights)).item())


def _first_gap(batch: MicroBatch) -> int:
    return int(np.flatnonzero(np.diff(batch.position_ids[0]) > 1)[0]) + 1


def test_the_loss_of_a_row_depends_on_tokens_before_its_gap(make: Make, loss: LanguageModelLoss) -> None:
    """transformers takes a jump of the positions for a new document unless a mask is passed: then nothing is seen
    across a gap, and training teaches no distance."""
    batch = _skipped(make(dataclasses.replace(TEXT, skipped_gaps=1)))
    assert batch.document_lengths[0] == (ORIGINAL_LENGTH,)
    last, before = ORIGINAL_LENGTH - 1, _first_gap(batch) - 1
    assert abs(_of_token(loss, batch, last, changed=before) - _of_token(loss, batch, last)) > 1e-4


def test_the_loss_depends_on_tokens_before_the_gap_and_on_no_other_document_of_the_row(
    make: Make, loss: LanguageModelLoss
) -> None:
    data = make(
        dataclasses.replace(
            TEXT, short_sequences_per_step=0, skipped_rows_per_step=1, skipped_gaps=1, text_repeats=1e6
        ),
        sizes=[90] * 20,
    )
    batch = next(b for step in range(50) for b in [_skipped(data, step)] if b.document_lengths[0][0] in range(40, 90))
    first = batch.document_lengths[0][0]
    last, before = first - 1, _first_gap(batch) - 1
    assert before < last - 1
    assert abs(_of_token(loss, batch, last, changed=before) - _of_token(loss, batch, last)) > 1e-4
    second = first + 1  # of the next document: none of its own is before it but the first
    assert batch.position_ids[0, first] == 0
    assert _of_token(loss, batch, second, changed=before) == _of_token(loss, batch, second)
    assert abs(_of_token(loss, batch, second, changed=first) - _of_token(loss, batch, second)) > 1e-4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"short_tokens": 127}, "short_tokens must be from .*, but got short_tokens=127, original_length=128"),
        ({"short_tokens": 1025}, "short_tokens=1025, original_length=128, target_length=1024"),
        ({"skipped_tokens": 1022}, "a position to each gap, but got skipped_tokens=1022, skipped_gaps=4, .*reach=1024"),
        ({"skipped_tokens": 4}, "must be below the tokens of a skipped row, but got skipped_gaps=4, skipped_tokens=4"),
        ({"skipped_reach": 1025}, "at most the target length, but got skipped_reach=1025, .*target_length=1024"),
        ({"skipped_reach": 128}, "greater than the original length .* but got skipped_reach=128"),
        ({"skipped_reach": 131}, "a position to each gap, but got skipped_tokens=128, skipped_gaps=4"),
        ({"skipped_tail_share": 0.1, "skipped_tail_tokens": 128}, "skipped_tail_tokens=128, skipped_tokens=128"),
    ],
)
def test_rows_and_gaps_that_do_not_fit_are_refused_with_the_values(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidFinetuneSettings, match=message):
        check_rows(dataclasses.replace(SKIPPED, **given), original_length=ORIGINAL_LENGTH, target_length=TARGET)


def test_the_tokens_of_a_step_are_those_of_its_rows(make: Make) -> None:
    settings = dataclasses.replace(SKIPPED, long_documents_per_step=1, skipped_loss_share=0.2, skipped_tokens=200)
    lengths = {"original_length": ORIGINAL_LENGTH, "target_length": TARGET}
    assert [row_tokens(settings, kind, **lengths) for kind in ("long", "short", "skipped")] == [TARGET, 128, 200]
    read = sum(batch.token_ids.size for batch in make(settings).batches(0, Ranks()))
    assert read == training_tokens(settings, 1, **lengths) == TARGET + 128 + 4 * 200


def test_long_and_skipped_rows_in_turn_are_those_of_steps_that_have_one_kind(make: Make) -> None:
    """No document is left out or seen twice for it, and the tokens are counted as they are read."""
    settings = dataclasses.replace(SKIPPED, steps=12, long_documents_per_step=1, long_every=3)
    lengths = {"original_length": ORIGINAL_LENGTH, "target_length": TARGET}
    steps = [list(make(settings).batches(step, Ranks())) for step in range(12)]
    assert [[batch.kind for batch in step] for step in steps[:3]] == [["short", "skipped"]] * 2 + [["long", "short"]]
    for count in range(13):
        read = sum(batch.token_ids.size for step in steps[:count] for batch in step)
        assert read == training_tokens(settings, count, **lengths)
    alone = {
        "long": dataclasses.replace(SKIPPED, long_documents_per_step=1, skipped_rows_per_step=0),
        "skipped": SKIPPED,
    }
    for kind, others in alone.items():
        seen = [batch.token_ids for step in steps for batch in step if batch.kind == kind]
        expected = [
            batch.token_ids
            for step in range(len(seen))
            for batch in make(others).batches(step, Ranks())
            if batch.kind == kind
        ]
        assert all(map(np.array_equal, seen, expected)), kind


def test_a_training_of_kinds_in_turn_tells_the_losses_of_each(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path
) -> None:
    settings = dataclasses.replace(SKIPPED, steps=7, warmup_steps=1, long_documents_per_step=1, long_every=3)
    seen: list[TrainingProgress] = []
    result = run_finetune(tiny_source, factor_file, settings, tmp_path / "out", seen.append)
    assert [one.loss_long is not None for one in seen] == [False, False, True, False, False, True, False]
    assert (result.initial_loss_long, result.final_loss_long) == (seen[2].loss_long, seen[5].loss_long)
    last = [one.loss_skipped for one in seen[4:] if one.loss_skipped is not None]
    assert result.final_loss_skipped == pytest.approx(np.mean(last))
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| per step, in one of 3, long factors | 1 documents" in card
    assert "| per step, in 2 of 3, long factors | 4 rows" in card


def test_a_training_of_short_and_skipped_rows_alone_ends_in_a_checkpoint(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path
) -> None:
    settings = dataclasses.replace(SKIPPED, steps=3, warmup_steps=1)
    seen: list[TrainingProgress] = []
    result = run_finetune(tiny_source, factor_file, settings, tmp_path / "out", seen.append)
    assert result.tokens == 3 * 5 * ORIGINAL_LENGTH
    assert result.initial_loss_long is result.final_loss_long is None
    assert result.initial_loss_skipped == seen[0].loss_skipped
    assert seen[0].loss_long is None
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| per step, long factors | 4 rows of 128 tokens, whose positions jump and reach up to 320 |" in card
    assert "documents of 320 tokens" not in card
