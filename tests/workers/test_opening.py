"""Settings, the factory, and what cannot be opened."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.errors import ModelNotFound
from evaluation.models.source import resolve_model
from ropewalk.errors import UnsupportedRope
from ropewalk.rope.config import compute_inv_freq
from tests.helpers.samples import IDENTITY, ORIGINAL_LENGTH, ROPE, STRETCHED, TARGET_LENGTH, documents, longrope_config
from tests.helpers.scorer_conformance import score
from workers.base import ScorerInfo, ScorerSettings
from workers.errors import InvalidScorerSettings, ScorerUnavailable, WorkersError
from workers.factory import make_scorer
from workers.transformers_backend.passes import forward_groups
from workers.transformers_backend.scorer import TransformersScorer


def settings(**changes: Any) -> ScorerSettings:
    values = {"model": "pocket", "target_length": TARGET_LENGTH, "original_length": ORIGINAL_LENGTH}
    return ScorerSettings(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": ""}, "model must not be empty"),
        ({"dtype": "int8"}, "dtype must be one of .* but got int8"),
        ({"target_length": 63}, "target_length=63, original_length=64"),
        ({"original_length": 0, "target_length": 0}, "original_length must be positive"),
        ({"tensor_parallel": 0}, "tensor_parallel"),
        ({"threads": 0}, "threads"),
        ({"gpus": -0.5}, "gpus"),
        ({"delay_seconds": -1.0}, "delay_seconds"),
        ({"document_seconds": 0.0}, "document_seconds"),
        ({"tensor_parallel": 2, "gpus": 1.0}, "gpus must be at least tensor_parallel"),
    ],
)
def test_settings_that_nothing_could_run_with(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidScorerSettings, match=words):
        settings(**changes)


def test_every_error_has_a_code_of_its_own() -> None:
    kinds: list[type[WorkersError]] = [WorkersError, *WorkersError.__subclasses__()]
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(kind.code.isupper() for kind in kinds)


def info(**changes: str) -> ScorerInfo:
    return ScorerInfo(**{field.name: field.name for field in dataclasses.fields(ScorerInfo)} | changes)


def test_fingerprints_tell_any_difference() -> None:
    names = [field.name for field in dataclasses.fields(ScorerInfo)]
    prints = {info().fingerprint()} | {info(**{name: "other"}).fingerprint() for name in names}
    assert len(prints) == len(names) + 1
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in prints)


def test_a_fingerprint_does_not_depend_on_where_one_field_ends() -> None:
    assert info(backend="x\ny", dtype="z").fingerprint() != info(backend="x", dtype="y\nz").fingerprint()


def test_what_the_config_says_beside_rope_is_in_the_fingerprint(tiny_model: Path, tmp_path: Path) -> None:
    """The weights are the same bytes, the model is another one."""
    config = json.loads((tiny_model / "config.json").read_text())
    shutil.copytree(tiny_model, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-2}))
    one, other = (make_scorer(settings(model=str(path), dtype="float32")) for path in (tiny_model, tmp_path))
    assert one.info.model_sha256 == other.info.model_sha256
    assert one.info.fingerprint() != other.info.fingerprint()
    assert score(one, documents(1)) != score(other, documents(1))


def test_threads_are_in_the_fingerprint_and_lengths_are_not(tiny_model: Path) -> None:
    threads = torch.get_num_threads()
    try:
        one, two, longer = (
            make_scorer(settings(model=str(tiny_model), **changes)).info.fingerprint()
            for changes in ({"threads": 1}, {"threads": 2}, {"threads": 1, "target_length": 2 * TARGET_LENGTH})
        )
    finally:
        torch.set_num_threads(threads)
    assert one == longer != two


def test_the_formula_of_another_scale_is_another_scorer(tiny_model: Path) -> None:
    lengths = (TARGET_LENGTH, 2 * TARGET_LENGTH)
    opened = [make_scorer(settings(model=str(tiny_model), backend="analytic", target_length=one)) for one in lengths]
    assert opened[0].info.fingerprint() != opened[1].info.fingerprint()
    assert score(opened[0], documents(1)) != score(opened[1], documents(1))


def test_auto_takes_transformers(tiny_model: Path) -> None:
    scorer = make_scorer(settings(model=str(tiny_model)))
    assert isinstance(scorer, TransformersScorer)
    assert (scorer.info.backend, len(scorer.info.model_sha256)) == ("transformers", 64)
    assert score(scorer, documents(1))[0].tokens == 7


def test_vllm_says_what_to_install() -> None:
    with pytest.raises(ScorerUnavailable, match=r"pip install '\.\[vllm\]'"):
        make_scorer(settings(backend="vllm"))


def test_transformers_runs_on_one_rank_only(tiny_model: Path) -> None:
    with pytest.raises(ScorerUnavailable, match="tensor_parallel=2"):
        make_scorer(settings(model=str(tiny_model), tensor_parallel=2))


@pytest.mark.parametrize("backend", ["transformers", "analytic"])
def test_unknown_model(backend: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        make_scorer(settings(model=str(tmp_path / "nowhere"), backend=backend))


def test_not_a_rope_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_positions": 1024}))
    with pytest.raises(UnsupportedRope):
        make_scorer(settings(model=str(tmp_path)))


def test_pickled_weights_are_not_loaded(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything at all")
    with pytest.raises(ScorerUnavailable, match="safetensors"):
        make_scorer(settings(model=str(tmp_path)))


def test_damaged_weights(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ScorerUnavailable, match=str(tmp_path)):
        make_scorer(settings(model=str(tmp_path)))


def test_the_embedding_below_a_longrope_config(tmp_path: Path) -> None:
    longrope_config(STRETCHED, 1.1).save_pretrained(tmp_path)
    below = resolve_model(str(tmp_path), original_length=ORIGINAL_LENGTH, weights=False).rope
    assert compute_inv_freq(below).tolist() == compute_inv_freq(ROPE).tolist()
    assert below.attention_factor == 1.1  # which transformers applies within the original length too
    past = resolve_model(str(tmp_path), weights=False).rope
    assert past.original_max_position_embeddings == TARGET_LENGTH
    np.testing.assert_allclose(compute_inv_freq(past), compute_inv_freq(ROPE, STRETCHED), rtol=1e-6)


def test_forward_groups_have_a_shape_that_follows_from_the_length() -> None:
    """Groups of equal length and answer positions, never more documents than rows, nobody forgotten."""
    mixed = (*documents(6, length=64), *documents(2, length=256), *documents(1, length=64, needles=2))
    groups = list(forward_groups(mixed, tokens_per_forward=300))
    assert [(group.indices, group.rows) for group in groups] == [
        ((0, 1, 2, 3), 4),
        ((4, 5), 4),
        ((6,), 1),
        ((7,), 1),
        ((8,), 4),
    ]


def test_scores_do_not_depend_on_companions_to_the_last_bit(transformers_settings: ScorerSettings) -> None:
    scorer = make_scorer(transformers_settings)
    mixed = documents(7, length=48)
    together = score(scorer, mixed, factors=IDENTITY)
    assert together == tuple(score(scorer, [one], factors=IDENTITY)[0] for one in mixed)
