"""Every kind of rotary embedding that the reader accepts: vLLM's numbers are those of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.models.source import resolve_model
from search_space.rope.rescale_factors import RescaleFactors
from search_space.rope.scaling import Scaling
from tests.helpers.samples import document
from tests.helpers.vllm_families import FAMILIES, save_family
from tests.helpers.vllm_models import vllm_settings
from workers.transformers_backend.scorer import TransformersScorer
from workers.vllm_backend.scorer import VllmScorer

PER_TOKEN = 1e-4  # nats: how far apart two programs may be in float32
EFFECT = 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_scores_as_with_transformers(name: str, tmp_path: Path) -> None:
    """As published and rescaled, with one engine; written factors must also change the score."""
    path = save_family(tmp_path, name)
    rope = resolve_model(str(path)).rope
    length = rope.original_max_position_embeddings
    settings = vllm_settings(model=str(path), original_length=length, target_length=2 * length)
    stretched = tuple(1.0 + index / rope.num_pairs for index in range(rope.num_pairs))
    scalings = (Scaling.identity(rope.num_pairs), Scaling(RescaleFactors(stretched), 1.1))
    documents = [document(0, length=length // 2), document(1, length=2 * length)]
    plain, scorer = TransformersScorer(settings), VllmScorer(settings)
    expected, found = ([one.score(scaling, documents) for scaling in scalings] for one in (plain, scorer))
    again = scorer.score(scalings[0], documents)
    scorer.close()
    assert again == found[0]
    differences = [
        abs(mine.nats - theirs.nats) / mine.tokens
        for one, other in zip(found, expected, strict=True)
        for mine, theirs in zip(one, other, strict=True)
    ]
    assert max(differences) < PER_TOKEN, differences
    effects = [abs(one.nats - other.nats) / one.tokens for one, other in zip(*expected, strict=True)]
    assert min(effects) > EFFECT, effects
