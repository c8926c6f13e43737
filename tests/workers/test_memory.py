"""Whether a model fits, told from its files' headers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers.samples import ORIGINAL_LENGTH, TARGET_LENGTH
from workers import memory
from workers.backends import BACKENDS
from workers.base import ScorerSettings
from workers.errors import ScorerUnavailable
from workers.factory import check_model_fits, make_scorer
from workers.memory import MemoryNeeded, free_bytes, whole_bytes

CPU = torch.device("cpu")
GIB = 2**30


def test_weights_are_shared_by_the_ranks_and_the_kv_cache_is_not() -> None:
    needed = MemoryNeeded(weights=6 * GIB, kv_cache=GIB, ranks=2, target_length=32768)
    needed.check(4 * GIB, what="a GPU")
    needed.check(None, what="an unknown one")
    with pytest.raises(ScorerUnavailable) as caught:
        needed.check(4 * GIB - 1, what="the free memory of a GPU")
    assert str(caught.value) == (
        "a model must fit the free memory of a GPU, 4.00 GiB, but 6.00 GiB of weights over 2 ranks and 1.00 GiB of KV "
        "cache for target_length=32768 need 4.00 GiB"
    )


def test_only_vllm_keeps_keys_and_values(tiny_model: Path) -> None:
    one, other = (
        MemoryNeeded.of(
            tiny_model,
            kv_cache_bytes=BACKENDS[backend].kv_cache_bytes,
            dtype=torch.bfloat16,
            target_length=TARGET_LENGTH,
            ranks=1,
            device=CPU,
        )
        for backend in ("transformers", "vllm")
    )
    assert one.kv_cache == 0 < other.kv_cache
    assert one.weights == other.weights > 0


def test_what_is_free_is_part_of_the_whole() -> None:
    free = free_bytes(CPU)
    assert free is not None
    assert GIB // 8 < free < whole_bytes(CPU)


def test_a_scorer_is_not_opened_for_it(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "whole_bytes", lambda device: 1000)
    settings = ScorerSettings(model=str(tiny_model), target_length=TARGET_LENGTH, original_length=ORIGINAL_LENGTH)
    with pytest.raises(ScorerUnavailable, match=r"^a model must fit the memory of cpu .*, 0\.00 GiB, but 0\.00 GiB"):
        make_scorer(settings)
    with pytest.raises(ScorerUnavailable, match="must fit the memory"):
        check_model_fits(tiny_model, settings)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    check_model_fits(tiny_model, settings)
