"""What the proofs of exports share: factors for the pocket model, documents, and what a search says of them."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest

from evaluation.documents.corpus import load_corpus
from evaluation.documents.factory import DocumentFactory, DocumentRequest
from evaluation.documents.needle import NeedleDocument
from evaluation.models.source import load_tokenizer, resolve_model
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.rope.published import PairFactors
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.baselines import baseline
from tests.helpers.paths import POCKET
from workers.base import ScorerSettings
from workers.transformers_backend.scorer import TransformersScorer

ORIGINAL_LENGTH, TARGET_LENGTH = 256, 1024
SHORT, LONG = 224, 1000  # tokens per document
SCALED = 1.06  # an attention factor that is neither 1 nor what a consumer would take for these lengths, 1.118
PER_TOKEN = 1e-5  # nats; float32 kernels of different programs
ANSWER_TOKENS = 7


def pocket_factors(attention_factor: float) -> FactorFile:
    """Factors that differ from 1 within the original length too, so that taking the wrong ones would show."""
    source = resolve_model("pocket")
    yarn = baseline("yarn", source.rope, TARGET_LENGTH).scaling.factors
    short = tuple(1.0 + 0.02 * pair for pair in range(source.rope.num_pairs))
    return FactorFile(
        model=ModelIdentity.of(source.rope, name="pocket"),
        original_max_position_embeddings=ORIGINAL_LENGTH,
        target_length=TARGET_LENGTH,
        attention_factor=attention_factor,
        short_factor=PairFactors(short),
        long_factor=PairFactors(tuple(a * b for a, b in zip(short, yarn.values, strict=True))),
    )


@cache
def documents(length: int) -> tuple[NeedleDocument, ...]:
    """Two needle documents of `length` tokens."""
    factory = DocumentFactory(load_tokenizer(resolve_model("pocket")), load_corpus(None))
    return factory.build(DocumentRequest(target_length=length, count=2, seed=0, split="validation", needles=1))


def scored(file: FactorFile, length: int, *, long: bool = False) -> list[float]:
    """Nats per document as a search takes them, under the factors of the file that are for the length, or the long."""
    factors = file.long_factor if long or length > ORIGINAL_LENGTH else file.short_factor
    settings = ScorerSettings(
        model="pocket", target_length=TARGET_LENGTH, original_length=ORIGINAL_LENGTH, dtype="float32", threads=1
    )
    scorer = TransformersScorer(settings)
    scores = scorer.score(Scaling(RescaleFactors(factors.values), file.attention_factor), documents(length))
    scorer.close()
    return [score.nats for score in scores]


def assert_close(found: list[float], expected: list[float], *, per_token: float = PER_TOKEN) -> None:
    """Whether two programs say the same nats per document."""
    assert found == pytest.approx(expected, abs=per_token * ANSWER_TOKENS)


def copy_of_pocket(directory: Path, fragment: str) -> Path:
    """The pocket model in `directory`, its config with an export in it."""
    shutil.copytree(POCKET, directory)
    config = json.loads((directory / "config.json").read_text()) | json.loads(fragment)
    (directory / "config.json").write_text(json.dumps(config))
    return directory
