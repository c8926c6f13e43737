from __future__ import annotations

import math

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import processors

from evaluation.documents.corpus import Corpus
from evaluation.documents.windows import TextWindow, WindowScore, summarise_windows, text_windows
from evaluation.errors import CorpusTooShort, InvalidDocumentRequest, InvalidScores
from evaluation.models.tokenizer import HFTokenizer
from evaluation.ruler.factory import RulerFactory
from evaluation.ruler.task import RulerRequest
from evaluation.scores.retention import retention
from tests.helpers.tokenizers import as_transformers


def test_every_length_scores_the_same_tokens(tokenizer: HFTokenizer, pydoc: Corpus) -> None:
    built = text_windows(tokenizer, pydoc, lengths=(128, 1024), count=6, seed=3)
    for short, long in zip(built[128], built[1024], strict=True):
        assert (len(short.token_ids), len(long.token_ids)) == (128, 1024)
        assert short.scored == long.scored == 127
        assert short.token_ids == long.token_ids[-128:]
    assert len({window.token_ids for window in built[128]}) == 6
    fewer = text_windows(tokenizer, pydoc, lengths=(1024, 128), count=2, seed=3)
    assert fewer[1024] == built[1024][:2]
    assert text_windows(tokenizer, pydoc, lengths=(128,), count=6, seed=4)[128] != built[128]


def test_impossible_windows_are_refused(tokenizer: HFTokenizer, pydoc: Corpus) -> None:
    with pytest.raises(CorpusTooShort, match="one window"):
        text_windows(tokenizer, pydoc, lengths=(10**7,), count=1, seed=0)
    for lengths, count in (((), 1), ((1,), 1), ((64,), 0)):
        with pytest.raises(InvalidDocumentRequest):
            text_windows(tokenizer, pydoc, lengths=lengths, count=count, seed=0)
    with pytest.raises(InvalidDocumentRequest, match="scored"):
        TextWindow(id="w", token_ids=(1, 2), scored=2)


def test_sums_over_counts() -> None:
    scores = [
        WindowScore(window_id="a", nats=8.0, tokens=4, correct=1),
        WindowScore(window_id="b", nats=4.0, tokens=12, correct=7),
    ]
    summary = summarise_windows(scores)
    assert (summary.nll, summary.accuracy, summary.tokens) == (0.75, 0.5, 16)
    assert summary.perplexity == pytest.approx(math.exp(0.75))
    with pytest.raises(InvalidScores):
        summarise_windows([])
    with pytest.raises(InvalidScores, match="correct"):
        WindowScore(window_id="a", nats=1.0, tokens=4, correct=5)


def test_percent_kept() -> None:
    assert retention("accuracy", before=0.5, after=0.25).kept == 50.0
    assert retention("accuracy", before=0.5, after=0.75).kept == 150.0
    assert retention("accuracy", before=0.0, after=0.5).kept is None
    assert retention("perplexity", before=5.0, after=10.0, less_is_better=True).kept == 50.0
    assert retention("perplexity", before=5.0, after=math.inf, less_is_better=True).kept == 0.0


def test_a_tokenizer_that_writes_a_bos_has_it_before_every_text(backend: Backend, pydoc: Corpus) -> None:
    copy = Backend.from_str(backend.to_str())
    copy.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = HFTokenizer(as_transformers(copy, bos_token="<s>"))
    short, long = (built[0] for built in text_windows(tokenizer, pydoc, lengths=(64, 128), count=1, seed=0).values())
    assert (len(short.token_ids), len(long.token_ids)) == (64, 128)
    assert short.token_ids == (0, *long.token_ids[-63:])
    (prompt,) = RulerFactory(tokenizer, pydoc).build(RulerRequest(task="vt", length=2048, count=1, seed=0))
    assert prompt.token_ids == (0, *tokenizer.encode(prompt.text))
