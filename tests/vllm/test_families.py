"""Every kind of rotary embedding that the reader accepts: vLLM's numbers are those of transformers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from evaluation.models.source import resolve_model
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from tests.helpers.samples import document
from tests.helpers.vllm_families import save_family
from tests.helpers.vllm_models import vllm_settings
from workers.base import ScorerSettings
from workers.errors import ScorerUnavailable
from workers.transformers_backend.scorer import TransformersScorer
from workers.vllm_backend.scorer import VllmScorer

HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None
PER_TOKEN = 1e-4  # nats: how far apart two programs may be in float32
EFFECT = 1e-3  # nats per token that written factors must change, or nothing is compared
LOADED = (
    "llama3",
    "yarn",
    "su",
    "layer types",
    "layer types in transformers' code",
    "pairs that do not turn",
    "latent",
    "experts",
    "interleaved",
    "scaled queries",
)
_WITH_PICTURES = pytest.mark.skipif(not HAS_TORCHVISION, reason="vLLM opens models of pictures with torchvision alone")
NESTED = [pytest.param(name, marks=_WITH_PICTURES) for name in ("nested with axes", "nested, scaled queries")]

pytestmark = pytest.mark.usefixtures("forked_engines")


@pytest.mark.parametrize("name", [*LOADED, *NESTED])
def test_a_family_scores_as_with_transformers(name: str, tmp_path: Path) -> None:
    """As published and rescaled, with one engine."""
    settings = _settings(save_family(tmp_path, name))
    assert settings.rope is not None
    pairs = settings.rope.num_pairs
    stretched = RescaleFactors(tuple(1.0 + index / pairs for index in range(pairs)))
    scalings = (Scaling.identity(pairs), Scaling(stretched, 1.1))
    documents = [document(0, length=settings.original_length // 2), document(1, length=settings.target_length)]
    plain, scorer = TransformersScorer(settings), VllmScorer(settings)
    expected, found = ([one.score(scaling, documents) for scaling in scalings] for one in (plain, scorer))
    assert scorer.score(scalings[0], documents) == found[0]
    scorer.close()
    for one, other in zip(found, expected, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert mine.nats == pytest.approx(theirs.nats, abs=PER_TOKEN * mine.tokens)
    for before, after in zip(*expected, strict=True):
        assert abs(before.nats - after.nats) > EFFECT * before.tokens


def test_what_no_kernel_here_can_compute_is_refused_by_name(tmp_path: Path) -> None:
    settings = _settings(save_family(tmp_path, "yarn whatever the config says"))
    with pytest.raises(
        ScorerUnavailable, match="vLLM's class for GptOssForCausalLM cannot be opened here: "
    ) as refused:
        VllmScorer(settings)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(HAS_TORCHVISION, reason="with torchvision vLLM opens it, and refuses nothing")
def test_a_model_of_pictures_without_torchvision_is_refused_by_name(tmp_path: Path) -> None:
    settings = _settings(save_family(tmp_path, "nested with axes"))
    with pytest.raises(ScorerUnavailable, match="vLLM's class for Qwen2VLForConditionalGeneration cannot be opened"):
        VllmScorer(settings)


def _settings(path: Path) -> ScorerSettings:
    rope = resolve_model(str(path)).rope
    length = rope.original_max_position_embeddings
    return vllm_settings(model=str(path), original_length=length, target_length=2 * length, rope=rope)
