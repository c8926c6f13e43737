"""What the pocket model reads: text that any Linux machine with Python has, and a tokenizer trained on that text."""

import hashlib
import re
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from evaluation.documents.corpus import load_corpus
from evaluation.documents.needle import NEEDLE, QUESTION
from evaluation.documents.splitting import window_hashes

VOCABULARY = 1024
END_OF_TEXT = "<|endoftext|>"
_TOKENIZER_CHARACTERS = 3_000_000
_REFERENCE_REPEATS = 10
"""The reference's training split is short; repeated, it makes up about 5 % of the text."""
_SPACES = re.compile(r"[ \t]+")
_BLANK_LINES = re.compile(r"\n\s*\n+")
_PACKAGES = ("asyncio", "collections", "concurrent", "email", "html", "http", "json", "logging", "urllib", "xml")
_PLAIN_SUFFIXES = {"", ".txt", ".md", ".rst"}


def _readable(path: Path) -> str:
    """The file's text as plain ASCII with runs of spaces collapsed, or nothing when it is not text."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    text = text.encode("ascii", "ignore").decode("ascii")
    return _BLANK_LINES.sub("\n\n", _SPACES.sub(" ", text)) if "\0" not in text else ""


def _library_sources() -> Iterator[Path]:
    """The standard library's sources, without its tests and without pydoc_data, which holds the reference itself."""
    root = Path(sysconfig.get_path("stdlib"))
    yield from sorted(root.glob("*.py"))
    for package in _PACKAGES:
        yield from sorted((root / package).rglob("*.py"))


def _documentation() -> Iterator[Path]:
    """Licences, and what the distribution's packages say of themselves; without Python's own documentation."""
    yield from sorted(Path("/usr/share/common-licenses").glob("*"))
    pages = (path for path in sorted(Path("/usr/share/doc").rglob("*")) if "python" not in str(path))
    yield from (path for path in pages if path.suffix in _PLAIN_SUFFIXES and path.is_file())


def _shares(text: str, held_out: NDArray[np.uint64]) -> bool:
    """Whether a window of `text` is among the sorted hashes `held_out`."""
    hashes = window_hashes(text)
    places = np.searchsorted(held_out, hashes).clip(max=len(held_out) - 1)
    return bool((held_out[places] == hashes).any())


def _first_characters(paths: Iterable[Path], budget: int, held_out: NDArray[np.uint64]) -> list[str]:
    """Different texts of `paths` in order, about `budget` characters; none shares a window with held-out text."""
    seen: set[bytes] = set()
    texts: list[str] = []
    for path in paths:
        text = _readable(path)[: min(max(budget // 8, 1), 200_000)]
        digest = hashlib.sha256(text.encode()).digest()
        if len(text) < 200 or digest in seen or _shares(text, held_out):
            continue
        seen.add(digest)
        texts.append(text)
        budget -= len(text)
        if budget < 200:
            break
    return texts


def training_texts(budget: int) -> list[str]:
    """About `budget` characters: the reference's training split, and half each of library sources and documentation."""
    reference = load_corpus(None)
    held_out = np.union1d(*(window_hashes(reference.split_text(split)) for split in ("search", "validation")))
    repeated = [reference.split_text("train")] * _REFERENCE_REPEATS
    rest = max(budget - sum(map(len, repeated)), 0) // 2
    paths = (_library_sources(), _documentation())
    return [*repeated, *(text for some in paths for text in _first_characters(some, rest, held_out))]


def train_tokenizer(texts: Sequence[str], keys: Sequence[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which every digit is a token of its own, so that an answer of seven digits is seven tokens."""
    rng = np.random.default_rng(0)
    sentences = [template.format(key=key, value=_number(rng)) for key in keys for template in (NEEDLE, QUESTION)]
    share = _TOKENIZER_CHARACTERS / max(sum(map(len, texts)), 1)
    sample = [text[: int(len(text) * min(share, 1.0))] for text in texts]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*sample, *sentences], trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT, clean_up_tokenization_spaces=False
    )


def _number(rng: np.random.Generator) -> int:
    return int(rng.integers(1_000_000, 10_000_000))


def encode_texts(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> NDArray[np.uint16]:
    """All texts as one row of token ids, an end-of-text token after each."""
    rows = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    end = tokenizer.eos_token_id
    return np.concatenate([np.asarray([*row, end], dtype=np.uint16) for row in rows])
