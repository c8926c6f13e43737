"""Which numbers of a head are a pair, as the family's own code has it."""

from __future__ import annotations

import pytest

from evaluation.architecture.reading import read_architecture
from tests.helpers.vllm_families import FAMILIES

NEIGHBOURS = {"interleaved", "latent", "latent v2"}  # GLM-4, and DeepSeek as real numbers and as complex ones


@pytest.mark.parametrize("name", FAMILIES)
def test_pairs_are_found_by_the_models_own_rotation(name: str) -> None:
    place = read_architecture(FAMILIES[name]).rope.place
    assert place.interleaved == (name in NEIGHBOURS)
    assert (place.vllm_refusal is not None) == (FAMILIES[name]["model_type"] == "gpt_oss")
