"""Needle documents: exact length, exact answers, even depths, nested sets, nothing shared between splits."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from evaluation.documents.corpus import Corpus
from evaluation.documents.factory import DocumentFactory, DocumentRequest, check_lengths
from evaluation.documents.keys import keys_of
from evaluation.documents.needle import NEEDLE, QUESTION, SPLITS, NeedleDocument, Split
from evaluation.errors import CorpusTooShort, InvalidDocumentRequest, KeyNotSingleValued, UnsupportedTokenizer
from evaluation.models.tokenizer import HFTokenizer
from tests.helpers.tokenizers import as_transformers, train_backend

lazily = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def haystacks(document: NeedleDocument) -> list[str]:
    """The document's text without its needles and questions, in pieces."""
    pieces = [document.text]
    for key, value in zip(document.keys, document.values, strict=True):
        for template in (NEEDLE, QUESTION):
            part = template.format(key=key, value=value)
            pieces = [rest for piece in pieces for rest in piece.split(part)]
    return pieces


@lazily
@given(
    length=st.integers(200, 1500),
    seed=st.integers(0, 2**70),
    split=st.sampled_from(SPLITS),
    needles=st.integers(1, 2),
    index=st.integers(0, 10_000),
)
def test_every_document_is_exact(
    factory: DocumentFactory,
    tokenizer: HFTokenizer,
    length: int,
    seed: int,
    split: Split,
    needles: int,
    index: int,
) -> None:
    request = DocumentRequest(target_length=length, count=1, seed=seed, split=split, needles=needles)
    document = factory.document(request, index)
    assert len(document.token_ids) == length
    assert document.text == tokenizer.decode(document.token_ids)
    for (start, end), value, key in zip(document.answer_spans, document.values, document.keys, strict=True):
        assert tokenizer.decode(document.token_ids[start:end]) == value
        assert end - start == 7
        assert document.text.count(NEEDLE.format(key=key, value=value)) == 1
        assert QUESTION.format(key=key, value=value) in document.text
        assert tokenizer.decode(document.token_ids[:end]).endswith(QUESTION.format(key=key, value=value))
    assert document.answer_spans[-1][1] == length
    assert set(document.keys) <= set(keys_of(split))
    assert document.id == f"{split}-{seed}-{length}-{index:05d}"


def test_the_needle_and_its_question_are_the_same_tokens(factory: DocumentFactory, tokenizer: HFTokenizer) -> None:
    document = factory.document(DocumentRequest(target_length=512, count=1, seed=1, needles=2), 3)
    for key, value in zip(document.keys, document.values, strict=True):
        statement = tokenizer.encode(f"\nThe magic number for {key} is ") + tokenizer.encode(value)
        found = [
            start
            for start in range(len(document.token_ids))
            if list(document.token_ids[start : start + len(statement)]) == statement
        ]
        assert len(found) == 2


def test_the_depth_is_where_the_needle_is(factory: DocumentFactory, tokenizer: HFTokenizer) -> None:
    for document in factory.build(DocumentRequest(target_length=700, count=20, seed=5)):
        key, value = document.keys[0], document.values[0]
        needle = tokenizer.encode(NEEDLE.format(key=key, value=value))
        before = len(tokenizer.encode(document.text.split(NEEDLE.format(key=key, value=value))[0]))
        after = len(tokenizer.encode(QUESTION.format(key=key, value=value)))
        assert document.depth == pytest.approx(before / (700 - len(needle) - after), abs=1e-9)


@pytest.mark.parametrize("needles", [1, 2])
def test_tokens_and_text_agree_both_ways(factory: DocumentFactory, tokenizer: HFTokenizer, needles: int) -> None:
    documents = factory.build(DocumentRequest(target_length=600, count=60, seed=2, needles=needles))
    agreeing = [tokenizer.encode(document.text) == list(document.token_ids) for document in documents]
    assert np.mean(agreeing) > 0.95


@pytest.mark.parametrize("count", [5, 8, 20, 40, 80])
@pytest.mark.parametrize("seed", [0, 7])
def test_any_prefix_has_even_depths(factory: DocumentFactory, count: int, seed: int) -> None:
    documents = factory.build(DocumentRequest(target_length=1024, count=count, seed=seed))
    depths = np.sort([0.0, *(document.depth for document in documents), 1.0])
    # Golden-ratio points leave gaps of at most phi^2/count, here a little more: a needle moves to a line start.
    assert np.diff(depths).max() < 2.618 / count + 0.05
    assert max(np.histogram(depths[1:-1], bins=4, range=(0, 1))[0]) <= count / 4 + 3


def test_snapping_moves_a_needle_by_a_line_at_most(factory: DocumentFactory) -> None:
    request = DocumentRequest(target_length=2000, count=30, seed=3)
    steps = np.diff([document.depth for document in factory.build(request)]) % 1.0
    assert np.abs(steps - 0.6180339887).max() < 2 * 33 / 1900


def test_needles_prefer_line_starts(factory: DocumentFactory) -> None:
    documents = factory.build(DocumentRequest(target_length=1024, count=40, seed=0))
    before = [doc.text.split(NEEDLE.format(key=doc.keys[0], value=doc.values[0]))[0] for doc in documents]
    assert np.mean([text == "" or text.endswith("\n") for text in before]) > 0.9


def test_the_needles_of_a_document_are_spread(factory: DocumentFactory) -> None:
    for document in factory.build(DocumentRequest(target_length=1024, count=10, seed=0, needles=4)):
        assert document.depth == document.depths[0]
        gaps = np.diff(np.sort([*document.depths, min(document.depths) + 1]))
        assert gaps.min() > 0.15
        assert len(set(document.keys)) == 4


def test_sets_are_nested_and_repeatable(factory: DocumentFactory, tokenizer: HFTokenizer, pydoc: Corpus) -> None:
    small = factory.build(DocumentRequest(target_length=400, count=6, seed=9, split="search"))
    large = factory.build(DocumentRequest(target_length=400, count=15, seed=9, split="search"))
    assert large[:6] == small
    elsewhere = DocumentFactory(tokenizer, pydoc)
    assert elsewhere.document(DocumentRequest(target_length=400, count=1, seed=9, split="search"), 4) == small[4]
    assert len({document.token_ids for document in large}) == 15


def test_the_seed_decides(factory: DocumentFactory) -> None:
    def ids(seed: int, split: Split = "validation") -> set[tuple[int, ...]]:
        request = DocumentRequest(target_length=300, count=8, seed=seed, split=split)
        return {document.token_ids for document in factory.build(request)}

    seeds = [ids(seed) for seed in (0, 1, 2**32, 2**32 + 1)]
    assert len(set.union(*seeds)) == 32
    assert ids(0, "search").isdisjoint(ids(0, "train"))


def test_one_index_asks_one_question_at_every_length(factory: DocumentFactory) -> None:
    asked = [factory.document(DocumentRequest(target_length=length, count=1, seed=4), 2) for length in (256, 1024)]
    assert asked[0].keys == asked[1].keys
    assert asked[0].values == asked[1].values
    assert asked[0].depth == pytest.approx(asked[1].depth, abs=0.1)


def test_documents_use_the_whole_split(factory: DocumentFactory, pydoc: Corpus) -> None:
    documents = factory.build(DocumentRequest(target_length=1024, count=80, seed=0))
    text = pydoc.split_text("validation")
    starts = np.array([text.find(haystacks(document)[0][:200]) for document in documents]) / len(text)
    starts = starts[starts >= 0]
    assert len(set(starts.tolist())) > 60
    assert np.histogram(starts, bins=8, range=(0, 1))[0].min() >= 3


def test_search_and_validation_documents_share_no_text_and_no_key(factory: DocumentFactory) -> None:
    windows: dict[Split, set[str]] = {}
    keys: dict[Split, set[str]] = {}
    for split in SPLITS:
        documents = factory.build(DocumentRequest(target_length=1024, count=40, seed=0, split=split))
        texts = [text for document in documents for text in haystacks(document)]
        windows[split] = {text[at : at + 40] for text in texts for at in range(len(text) - 39)}
        keys[split] = {key for document in documents for key in document.keys}
    for one, other in itertools.combinations(SPLITS, 2):
        assert windows[one].isdisjoint(windows[other])
        assert keys[one].isdisjoint(keys[other])


def test_a_tokenizer_that_writes_bos_gets_it(backend: Backend, pydoc: Corpus) -> None:
    copy = Backend.from_str(backend.to_str())
    copy.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    wrapped = HFTokenizer(as_transformers(copy, bos_token="<s>"))
    request = DocumentRequest(target_length=300, count=1, seed=0)
    document = DocumentFactory(wrapped, pydoc).document(request, 0)
    assert wrapped.bos_token_id == 0
    assert document.token_ids[0] == 0
    assert document.token_ids.count(0) == 1
    assert len(document.token_ids) == 300
    assert document.text.startswith("<s>")


def test_a_tokenizer_that_joins_space_and_number_is_supported(pydoc: Corpus) -> None:
    backend = train_backend(pydoc.split_text("train") + " 1234567 7654321" * 50, split_digits=False)
    wrapped = HFTokenizer(as_transformers(backend))
    document = DocumentFactory(wrapped, pydoc).document(DocumentRequest(target_length=400, count=1, seed=0), 0)
    start, end = document.answer_spans[0]
    assert wrapped.decode(document.token_ids[start:end]) == f" {document.values[0]}"
    assert wrapped.encode(document.text) == list(document.token_ids)


def sentencepiece_like(text: str) -> Backend:
    """As Llama 2's: a "▁" before every text and for every space, bytes for what the vocabulary lacks."""
    backend = Backend(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<unk>", *byte_tokens], show_progress=False)
    backend.train_from_iterator(text.replace("\n", " ").split(" "), trainer)
    return backend


def llama3_like(text: str) -> Backend:
    """As Llama 3's: digits in groups of three, punctuation and line ends in one token."""
    backend = Backend(models.BPE())
    words = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    split = pre_tokenizers.Split(Regex(words), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([text], trainer)
    return backend


@pytest.mark.parametrize("make", [sentencepiece_like, llama3_like])
@pytest.mark.parametrize("needles", [1, 2])
def test_other_kinds_of_tokenizers(make: Callable[[str], Backend], needles: int, pydoc: Corpus) -> None:
    wrapped = HFTokenizer(as_transformers(make(pydoc.split_text("train"))))
    request = DocumentRequest(target_length=500, count=10, seed=0, needles=needles)
    for document in DocumentFactory(wrapped, pydoc).build(request):
        assert len(document.token_ids) == 500
        for (start, end), value in zip(document.answer_spans, document.values, strict=True):
            assert wrapped.decode(document.token_ids[start:end]) == value
            answer = document.token_ids[start:end]
            found = [at for at in range(500) if document.token_ids[at : at + len(answer)] == answer]
            assert len(found) == 2  # the needle has the very tokens that the question asks for
            assert document.token_ids[found[0] - 3 : found[0]] == document.token_ids[start - 3 : start]


def test_a_text_without_lines_or_words_still_gives_different_documents(tokenizer: HFTokenizer) -> None:
    rng = np.random.default_rng(0)
    text = "".join(chr(0x4E00 + int(code)) for code in rng.integers(0, 3000, size=20_000))
    factory = DocumentFactory(tokenizer, Corpus(name="unbroken", text=text))
    documents = factory.build(DocumentRequest(target_length=300, count=10, seed=0))
    assert len({document.text[:20] for document in documents}) == 10


@pytest.mark.parametrize(
    ("request_of", "said"),
    [
        ({"target_length": 0}, "target_length must be at least 1, but got target_length=0"),
        ({"count": 0}, "count must be at least 1, but got count=0"),
        ({"count": -3}, "count must be at least 1, but got count=-3"),
        ({"seed": -1}, "seed must be at least 0, but got seed=-1"),
        ({"needles": 0}, "needles must be at least 1, but got needles=0"),
        ({"split": "test"}, "split must be one of search, validation, train, but got split='test'"),
    ],
)
def test_a_request_without_sense_is_refused(request_of: dict[str, object], said: str) -> None:
    fields: dict[str, object] = {"target_length": 256, "count": 1, "seed": 0, **request_of}
    with pytest.raises(InvalidDocumentRequest, match=re.escape(said)):
        DocumentRequest(**fields)  # type: ignore[arg-type]


def test_needles_that_do_not_fit_are_refused(factory: DocumentFactory) -> None:
    with pytest.raises(InvalidDocumentRequest, match="got target_length=120, needles=4, which leave -"):
        factory.build(DocumentRequest(target_length=120, count=1, seed=0, needles=4))
    with pytest.raises(InvalidDocumentRequest, match="needles must be at most"):
        factory.build(DocumentRequest(target_length=120, count=1, seed=0, needles=100_000))
    with pytest.raises(InvalidDocumentRequest, match="index=-1"):
        factory.document(DocumentRequest(target_length=120, count=1, seed=0), -1)


def test_a_target_below_the_original_length_is_refused() -> None:
    check_lengths(256, 256)
    check_lengths(256, 1024)
    said = "target_length must be at least original_length, but got target_length=128, original_length=256"
    with pytest.raises(InvalidDocumentRequest, match=said):
        check_lengths(256, 128)


def test_a_short_corpus_says_how_short(tokenizer: HFTokenizer) -> None:
    factory = DocumentFactory(tokenizer, Corpus(name="tiny", text="A short text.\nOf two lines.\n"))
    said = r"the validation split .* must have at least the \d+ tokens of one haystack, but 'tiny' has \d+"
    with pytest.raises(CorpusTooShort, match=said):
        factory.build(DocumentRequest(target_length=1024, count=1, seed=0))
    with pytest.raises(CorpusTooShort, match="'tiny' has 0"):
        factory.build(DocumentRequest(target_length=1024, count=1, seed=0, split="train"))


def test_a_corpus_that_answers_by_itself_is_refused(tokenizer: HFTokenizer) -> None:
    said = "".join(f"The magic number for {key} is {1000 + at}.\n" for at, key in enumerate(keys_of("validation")))
    factory = DocumentFactory(tokenizer, Corpus(name="poisoned", text=said))
    with pytest.raises(KeyNotSingleValued, match="stated as"):
        factory.build(DocumentRequest(target_length=2000, count=30, seed=0))


def test_a_tokenizer_without_digits_is_refused(pydoc: Corpus) -> None:
    words = {"[UNK]": 0, **{chr(code): code - 96 for code in range(97, 123)}, "The": 27, "magic": 28}
    backend = Backend(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = HFTokenizer(as_transformers(backend, unk_token="[UNK]"))
    with pytest.raises(UnsupportedTokenizer, match="the digits 0123456789 without loss"):
        DocumentFactory(wrapped, pydoc)


def test_a_tokenizer_without_words_is_refused(pydoc: Corpus) -> None:
    words = {"[UNK]": 0, "0123456789": 1}
    backend = Backend(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = HFTokenizer(as_transformers(backend, unk_token="[UNK]"))
    with pytest.raises(UnsupportedTokenizer, match="The magic number for key is 1234567"):
        DocumentFactory(wrapped, pydoc)


def test_the_pocket_model_reads_its_documents(pocket_model: object, pydoc: Corpus) -> None:
    from evaluation.models.source import load_tokenizer, resolve_model

    tokenizer = load_tokenizer(resolve_model("pocket"))
    for document in DocumentFactory(tokenizer, pydoc).build(DocumentRequest(target_length=1024, count=40, seed=7)):
        start, end = document.answer_spans[0]
        assert len(document.token_ids) == 1024
        assert end - start == 7
        assert tokenizer.decode(document.token_ids[start:end]) == document.values[0]
