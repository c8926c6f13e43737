"""What the training sees: right lengths, right weights, right split, and the same again for the same step."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from evaluation.documents.corpus import Corpus
from evaluation.documents.keys import keys_of
from evaluation.errors import CorpusTooShort, InvalidDocumentRequest
from evaluation.models.source import ModelSource, load_tokenizer
from evaluation.models.tokenizer import Tokenizer
from finetune.config import FinetuneSettings, Kind
from finetune.data import MicroBatch, TrainingData
from finetune.language_model import LanguageModelLoss
from finetune.parallel import Ranks
from finetune.token_store import TokenStore, open_token_store
from tests.helpers.tiny_llama import ORIGINAL_LENGTH, TARGET_LENGTH


@pytest.fixture(scope="module")
def tokenizer(tiny_source: ModelSource) -> Tokenizer:
    return load_tokenizer(tiny_source)


@pytest.fixture(scope="module")
def text(tokenizer: Tokenizer, corpus: Corpus) -> TokenStore:
    return open_token_store(tokenizer, corpus, None, None)


MakeData = Callable[..., TrainingData]


@pytest.fixture
def make(tokenizer: Tokenizer, corpus: Corpus, text: TokenStore) -> MakeData:
    def data(settings: FinetuneSettings, target: int = TARGET_LENGTH) -> TrainingData:
        return TrainingData(
            tokenizer, corpus, text, original_length=ORIGINAL_LENGTH, target_length=target, settings=settings
        )

    return data


def _batch(kind: Kind, data: TrainingData, step: int, ranks: Ranks | None = None) -> MicroBatch:
    """The rows of one kind in a step that needs one pass for them."""
    (batch,) = (batch for batch in data.batches(step, ranks or Ranks()) if batch.kind == kind)
    return batch


def _same(left: MicroBatch, right: MicroBatch) -> bool:
    names = ("token_ids", "position_ids", "weights")
    same = all(np.array_equal(getattr(left, name), getattr(right, name)) for name in names)
    return same and left.document_lengths == right.document_lengths


def test_long_rows_are_one_document_of_the_target_length(make: MakeData) -> None:
    batch = _batch("long", make(FinetuneSettings(long_documents_per_step=3)), 2)
    assert batch.window == "long"
    assert batch.token_ids.shape == (3, TARGET_LENGTH)
    assert np.array_equal(batch.position_ids, np.tile(np.arange(TARGET_LENGTH), (3, 1)))
    assert batch.document_lengths == ((TARGET_LENGTH,),) * 3
    assert len({row.tobytes() for row in batch.token_ids}) == 3


def test_short_rows_are_packed_from_documents_within_the_original_length(make: MakeData) -> None:
    data = make(FinetuneSettings(short_sequences_per_step=4))
    lengths: list[int] = []
    for step in range(5):
        batch = _batch("short", data, step)
        assert batch.window == "short"
        assert batch.token_ids.shape == (4, TARGET_LENGTH)
        assert batch.position_ids.max() < ORIGINAL_LENGTH  # so the exported model would choose the short factors too
        for positions, row, weights in zip(batch.position_ids, batch.document_lengths, batch.weights, strict=True):
            starts = np.cumsum(row) - row
            assert not positions[starts].any()
            assert not weights[starts].any()
            assert sum(row) > TARGET_LENGTH - ORIGINAL_LENGTH // 4
            lengths += row
    assert max(lengths) == ORIGINAL_LENGTH
    assert len(set(lengths)) > 3


def test_middle_rows_are_packed_from_documents_between_the_lengths(make: MakeData) -> None:
    target = 4 * ORIGINAL_LENGTH
    data = make(FinetuneSettings(middle_sequences_per_step=3), target)
    rows = [row for step in range(8) for row in _batch("middle", data, step).document_lengths]
    lengths = [length for row in rows for length in row]
    assert min(lengths) > ORIGINAL_LENGTH  # so the exported model would choose the long factors for each alone
    assert max(lengths) < target
    assert max(len(row) for row in rows) > 1
    batch = _batch("middle", data, 0)
    assert batch.window == "long"
    assert batch.position_ids.max() + 1 == max(length for row in rows[:3] for length in row)


@pytest.mark.parametrize(("stretch", "filled"), [(2, 0.7), (4, 0.9)])
def test_lengths_of_middle_documents_are_spread_between_the_lengths(
    make: MakeData, stretch: int, filled: float
) -> None:
    target = stretch * ORIGINAL_LENGTH
    data = make(FinetuneSettings(middle_sequences_per_step=8, rows_per_pass=8, needle_fraction=0.0), target)
    rows = [row for step in range(12) for row in _batch("middle", data, step).document_lengths]
    lengths = [length for row in rows for length in row]
    quarters, _ = np.histogram(lengths, bins=4, range=(ORIGINAL_LENGTH, target))
    assert quarters.min() > 0.1 * len(lengths)
    assert np.bincount(lengths).max() < 0.1 * len(lengths)
    assert np.mean([sum(row) for row in rows]) > filled * target


def test_a_target_length_of_one_more_token_leaves_no_middle_but_that_one(make: MakeData) -> None:
    batch = _batch("middle", make(FinetuneSettings(middle_sequences_per_step=1), ORIGINAL_LENGTH + 1), 0)
    assert batch.document_lengths == ((ORIGINAL_LENGTH + 1,),)


@pytest.mark.parametrize("world", [2, 3])
def test_workers_share_the_rows_of_a_step_between_them(make: MakeData, world: int) -> None:
    settings = FinetuneSettings(middle_sequences_per_step=2, short_sequences_per_step=2, rows_per_pass=1)
    data = make(settings, 2 * ORIGINAL_LENGTH)
    whole = list(data.batches(3, Ranks()))
    parts = [list(data.batches(3, Ranks(rank=rank, world=world))) for rank in range(world)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for batch in whole:
        assert sum(_same(batch, other) for part in parts for other in part if other.kind == batch.kind) == 1
    assert sum(map(len, parts)) == len(whole) == settings.rows_per_step


def test_fewer_rows_in_a_pass_are_the_same_rows(make: MakeData) -> None:
    together = _batch("long", make(FinetuneSettings(long_documents_per_step=3)), 1)
    apart = [
        batch
        for batch in make(FinetuneSettings(long_documents_per_step=3, rows_per_pass=2)).batches(1, Ranks())
        if batch.kind == "long"
    ]
    assert [len(batch.token_ids) for batch in apart] == [2, 1]
    assert np.array_equal(np.concatenate([batch.token_ids for batch in apart]), together.token_ids)


@pytest.mark.parametrize(("kind", "target"), [("short", ORIGINAL_LENGTH + 5), ("middle", 2 * ORIGINAL_LENGTH)])
def test_padding_is_never_a_target(make: MakeData, kind: Kind, target: int) -> None:
    batch = _batch(kind, make(FinetuneSettings(middle_sequences_per_step=2), target), 0)
    for row, weights, positions in zip(batch.document_lengths, batch.weights, batch.position_ids, strict=True):
        assert sum(row) < len(weights)
        assert np.count_nonzero(weights[: sum(row)] == 0) == len(row)  # the first token of each document, and no other
        assert not weights[sum(row) :].any()
        assert not positions[sum(row) :].any()  # so that padding decides no rotary window


def test_padding_of_a_middle_row_changes_no_loss(make: MakeData, tiny_trainable: PreTrainedModel) -> None:
    batch = _batch("middle", make(FinetuneSettings(middle_sequences_per_step=1), 2 * ORIGINAL_LENGTH), 0)
    tokens = sum(batch.document_lengths[0])
    names = ("token_ids", "position_ids", "weights")
    cut = dataclasses.replace(batch, **{name: getattr(batch, name)[:, :tokens] for name in names})
    filled = dataclasses.replace(batch, token_ids=np.where(batch.position_ids == 0, 7, batch.token_ids))
    filled.token_ids[:, 0] = batch.token_ids[:, 0]
    assert not np.array_equal(filled.token_ids, batch.token_ids)
    loss = LanguageModelLoss(tiny_trainable)
    with torch.no_grad():
        whole, alone, other = (loss(each).item() for each in (batch, cut, filled))
    assert whole == pytest.approx(alone, rel=1e-5)
    assert whole == pytest.approx(other, rel=1e-5)


def test_answers_weigh_what_the_settings_say_and_are_the_asked_value(make: MakeData, tokenizer: Tokenizer) -> None:
    settings = FinetuneSettings(needle_fraction=1.0, answer_weight=7.0, long_documents_per_step=4)
    batch = _batch("long", make(settings), 0)
    for tokens, weights in zip(batch.token_ids, batch.weights, strict=True):
        answer = np.flatnonzero(weights == 7.0)
        assert np.array_equal(answer, np.arange(TARGET_LENGTH - 7, TARGET_LENGTH))
        value = tokenizer.decode(tokens[answer].tolist()).strip()
        assert value.isdigit()
        assert tokenizer.decode(tokens.tolist()).count(value) == 2
        assert set(np.unique(weights)) == {0.0, 1.0, 7.0}


def test_each_needle_of_a_document_is_asked_for_and_every_answer_weighs(make: MakeData, tokenizer: Tokenizer) -> None:
    settings = FinetuneSettings(needle_fraction=1.0, needles_per_document=3, answer_weight=7.0)
    tokens, weights = (getattr(_batch("long", make(settings), 0), name)[0] for name in ("token_ids", "weights"))
    answers = np.flatnonzero(weights == 7.0).reshape(3, 7)
    values = {tokenizer.decode(tokens[answer].tolist()).strip() for answer in answers}
    assert len(values) == 3
    assert [tokenizer.decode(tokens.tolist()).count(value) for value in values] == [2, 2, 2]


def test_text_and_keys_come_from_the_train_split(make: MakeData, tokenizer: Tokenizer, corpus: Corpus) -> None:
    train = corpus.split_text("train")
    plain = _batch("long", make(FinetuneSettings(needle_fraction=0.0)), 0)
    for tokens in plain.token_ids:
        # The first and the last character may be pieces of a longer one.
        assert tokenizer.decode(tokens.tolist()).strip("\ufffd") in train
    needles = _batch("long", make(FinetuneSettings(needle_fraction=1.0)), 0)
    for tokens in needles.token_ids:
        key = tokenizer.decode(tokens.tolist()).rsplit("The magic number for ", 1)[1].split(" is ")[0]
        assert key in keys_of("train")


def test_the_needle_fraction_is_kept_on_both_sides(make: MakeData) -> None:
    data = make(FinetuneSettings(needle_fraction=0.5, answer_weight=9.0, long_documents_per_step=1))
    long = [bool((_batch("long", data, step).weights == 9.0).any()) for step in range(80)]
    assert 0.3 < np.mean(long) < 0.7
    short = [(_batch("short", data, step).weights == 9.0).any(axis=1).mean() for step in range(20)]
    assert 0.3 < np.mean(short) < 1.0


def test_a_step_is_a_pure_function_of_the_seed(make: MakeData) -> None:
    first, again = (make(FinetuneSettings(seed=3)) for _ in range(2))
    other = make(FinetuneSettings(seed=4))
    later = _batch("long", first, 5), _batch("short", first, 5)
    _batch("long", first, 0)
    assert _same(later[0], _batch("long", again, 5))
    assert _same(later[1], _batch("short", again, 5))
    assert not _same(later[0], _batch("long", other, 5))
    assert not _same(later[1], _batch("short", other, 5))
    assert not _same(later[0], _batch("long", first, 6))


def test_no_needle_is_asked_twice(make: MakeData) -> None:
    data = make(FinetuneSettings(needle_fraction=1.0, answer_weight=9.0))
    values = []
    for step in range(6):
        for batch in (_batch("long", data, step), _batch("short", data, step)):
            for tokens, weights in zip(batch.token_ids, batch.weights, strict=True):
                answers = tokens[weights == 9.0].reshape(-1, 7)
                values += [tuple(answer) for answer in answers.tolist()]
    assert len(values) > 20
    assert len(set(values)) == len(values)


def test_without_short_sequences_there_is_no_short_batch(make: MakeData) -> None:
    batches = make(FinetuneSettings(short_sequences_per_step=0)).batches(0, Ranks())
    assert {batch.kind for batch in batches} == {"long"}


def test_too_little_long_text_for_the_mix_is_refused_with_both_amounts(make: MakeData, text: TokenStore) -> None:
    settings = FinetuneSettings(steps=1000, needle_fraction=0.5, text_repeats=2.0)
    asked = 1000 * 3 * TARGET_LENGTH // 2
    expected = f"long documents ask for {asked:,} tokens .* than 2 times for {asked // 2:,} .* has {len(text.tokens):,}"
    with pytest.raises(CorpusTooShort, match=expected):
        make(settings)
    make(dataclasses.replace(settings, text_repeats=32.0))
    make(dataclasses.replace(settings, needle_fraction=1.0))
    with pytest.raises(CorpusTooShort, match="middle documents ask for"):
        make(dataclasses.replace(settings, text_repeats=32.0, middle_sequences_per_step=400))


def test_a_corpus_without_one_long_document_is_refused(make: MakeData) -> None:
    with pytest.raises(CorpusTooShort, match="in documents of at least 1,000,000, but corpus 'builtin:pydoc' has 0"):
        make(FinetuneSettings(needle_fraction=1.0), 1_000_000)


def test_needles_that_do_not_fit_a_long_document_are_refused(make: MakeData) -> None:
    data = make(FinetuneSettings(needles_per_document=40, needle_fraction=1.0))
    with pytest.raises(InvalidDocumentRequest):
        _batch("long", data, 0)
