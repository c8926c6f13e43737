"""What the training sees: right lengths, right weights, right split, and the same again for the same step."""

import numpy as np
import pytest

from evaluation.corpus import Corpus
from evaluation.errors import CorpusTooShort, InvalidDocumentRequest
from evaluation.keys import keys_of
from evaluation.model_source import ModelSource, load_tokenizer
from evaluation.tokenizer import Tokenizer
from finetune.config import FinetuneSettings
from finetune.data import MicroBatch, TrainingData
from tests.finetune.conftest import ORIGINAL_LENGTH, TARGET_LENGTH


@pytest.fixture(scope="module")
def tokenizer(tiny_source: ModelSource) -> Tokenizer:
    return load_tokenizer(tiny_source)


def _data(
    tokenizer: Tokenizer, corpus: Corpus, settings: FinetuneSettings, target: int = TARGET_LENGTH
) -> TrainingData:
    return TrainingData(tokenizer, corpus, original_length=ORIGINAL_LENGTH, target_length=target, settings=settings)


def _short(data: TrainingData, step: int) -> MicroBatch:
    batch = data.short_batch(step)
    assert batch is not None
    return batch


def _same(left: MicroBatch, right: MicroBatch) -> bool:
    names = ("token_ids", "position_ids", "segment_ids", "weights")
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in names)


def test_long_rows_are_one_document_of_the_target_length(tokenizer: Tokenizer, corpus: Corpus) -> None:
    batch = _data(tokenizer, corpus, FinetuneSettings(long_documents_per_step=3)).long_batch(2)
    assert batch.window == "long"
    assert batch.token_ids.shape == (3, TARGET_LENGTH)
    assert np.array_equal(batch.position_ids, np.tile(np.arange(TARGET_LENGTH), (3, 1)))
    assert not batch.segment_ids.any()
    assert len({row.tobytes() for row in batch.token_ids}) == 3


def test_short_rows_are_packed_from_documents_within_the_original_length(tokenizer: Tokenizer, corpus: Corpus) -> None:
    data = _data(tokenizer, corpus, FinetuneSettings(short_sequences_per_step=4))
    lengths: list[int] = []
    for step in range(5):
        batch = _short(data, step)
        assert batch.window == "short"
        assert batch.token_ids.shape == (4, TARGET_LENGTH)
        assert batch.position_ids.max() < ORIGINAL_LENGTH  # so the exported model would choose the short factors too
        for positions, segments, weights in zip(batch.position_ids, batch.segment_ids, batch.weights, strict=True):
            starts = np.flatnonzero(positions == 0)
            assert np.array_equal(segments, np.cumsum(positions == 0) - 1)
            assert not weights[starts].any()
            lengths += np.diff(np.append(starts, TARGET_LENGTH)).tolist()
    assert max(lengths) == ORIGINAL_LENGTH
    assert len(set(lengths)) > 3


def test_padding_is_never_a_target(tokenizer: Tokenizer, corpus: Corpus) -> None:
    batch = _short(_data(tokenizer, corpus, FinetuneSettings(), target=ORIGINAL_LENGTH + 5), 0)
    for segments, weights in zip(batch.segment_ids, batch.weights, strict=True):
        inside = weights[segments < segments.max()]
        assert np.count_nonzero(inside == 0) == segments.max()  # the first token of each document, and no other
        assert not weights[segments == segments.max()].any()


def test_answers_weigh_what_the_settings_say_and_are_the_asked_value(tokenizer: Tokenizer, corpus: Corpus) -> None:
    settings = FinetuneSettings(needle_fraction=1.0, answer_weight=7.0, long_documents_per_step=4)
    batch = _data(tokenizer, corpus, settings).long_batch(0)
    for tokens, weights in zip(batch.token_ids, batch.weights, strict=True):
        answer = np.flatnonzero(weights == 7.0)
        assert np.array_equal(answer, np.arange(TARGET_LENGTH - 7, TARGET_LENGTH))
        value = tokenizer.decode(tokens[answer].tolist()).strip()
        assert value.isdigit()
        assert tokenizer.decode(tokens.tolist()).count(value) == 2
        assert set(np.unique(weights)) == {0.0, 1.0, 7.0}


def test_text_and_keys_come_from_the_train_split(tokenizer: Tokenizer, corpus: Corpus) -> None:
    train = corpus.split_text("train")
    plain = _data(tokenizer, corpus, FinetuneSettings(needle_fraction=0.0)).long_batch(0)
    for tokens in plain.token_ids:
        # The first and the last character may be pieces of a longer one.
        assert tokenizer.decode(tokens.tolist()).strip("\ufffd") in train
    needles = _data(tokenizer, corpus, FinetuneSettings(needle_fraction=1.0)).long_batch(0)
    for tokens in needles.token_ids:
        key = tokenizer.decode(tokens.tolist()).rsplit("The magic number for ", 1)[1].split(" is ")[0]
        assert key in keys_of("train")


def test_the_needle_fraction_is_kept_on_both_sides(tokenizer: Tokenizer, corpus: Corpus) -> None:
    data = _data(tokenizer, corpus, FinetuneSettings(needle_fraction=0.5, answer_weight=9.0, long_documents_per_step=1))
    long = [bool((data.long_batch(step).weights == 9.0).any()) for step in range(80)]
    assert 0.3 < np.mean(long) < 0.7
    short = [(_short(data, step).weights == 9.0).any(axis=1).mean() for step in range(20)]
    assert 0.3 < np.mean(short) < 1.0


def test_a_step_is_a_pure_function_of_the_seed(tokenizer: Tokenizer, corpus: Corpus) -> None:
    first, again = (_data(tokenizer, corpus, FinetuneSettings(seed=3)) for _ in range(2))
    other = _data(tokenizer, corpus, FinetuneSettings(seed=4))
    later = first.long_batch(5), _short(first, 5)
    first.long_batch(0)
    assert _same(later[0], again.long_batch(5))
    assert _same(later[1], _short(again, 5))
    assert not _same(later[0], other.long_batch(5))
    assert not _same(later[1], _short(other, 5))
    assert not _same(later[0], first.long_batch(6))


def test_no_needle_is_asked_twice(tokenizer: Tokenizer, corpus: Corpus) -> None:
    data = _data(tokenizer, corpus, FinetuneSettings(needle_fraction=1.0, answer_weight=9.0))
    values = []
    for step in range(6):
        for batch in (data.long_batch(step), _short(data, step)):
            for tokens, weights in zip(batch.token_ids, batch.weights, strict=True):
                answers = tokens[weights == 9.0].reshape(-1, 7)
                values += [tuple(answer) for answer in answers.tolist()]
    assert len(values) > 20
    assert len(set(values)) == len(values)


def test_without_short_sequences_there_is_no_short_batch(tokenizer: Tokenizer, corpus: Corpus) -> None:
    assert _data(tokenizer, corpus, FinetuneSettings(short_sequences_per_step=0)).short_batch(0) is None


def test_a_corpus_without_one_long_document_is_refused(tokenizer: Tokenizer) -> None:
    short = Corpus(name="short.txt", text="\n".join(f"line {i} of a short text" for i in range(400)))
    with pytest.raises(CorpusTooShort, match=r"short\.txt"):
        _data(tokenizer, short, FinetuneSettings(), target=100_000)


def test_needles_that_do_not_fit_a_long_document_are_refused(tokenizer: Tokenizer, corpus: Corpus) -> None:
    data = _data(tokenizer, corpus, FinetuneSettings(needles_per_document=40, needle_fraction=1.0))
    with pytest.raises(InvalidDocumentRequest):
        data.long_batch(0)
