"""Published model families as tiny models: their configs as data, random checkpoints of them, and factors.

`tests/families/families.json` has one entry a variant: the rope values and the structure that were published, sizes and
lengths shrunk, factors between lengths kept. `expected` is "works" or a phrase of the refusal. For what works, `length`
and `pairs` are L and n as read; `original_length` is L where the config states no usable one; and `export` is a phrase
of why no config can hold the family's factors; `attention_factor_matters` is false where queries and keys are normed
behind the rotation. `listed` is false for what was tried beyond the most used families.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

from evaluation.architecture.config import load_config
from evaluation.architecture.skeleton import auto_class
from evaluation.models.source import ModelSource, resolve_model
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.rope.scaling import Scaling
from search_space.candidates.baselines import baseline
from tests.helpers.paths import POCKET, ROOT

DATA = ROOT / "tests" / "families" / "families.json"
WORKS = "works"
ATTENTION_FACTOR = 1.1
_LONGEST = 4096  # tokens that a test reads at once
_SPREAD = 2.0  # of attention logits, about: positions matter and rounding errors stay small
_WEIGHTS = 0.08
_DAMPED_WEIGHTS = 0.3  # where a config has multipliers that make branches small
_HEAD = 4.0  # the root of a head's width, about
_LEAST_SPREAD = 0.3  # of a token's logits
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
_QUERIES_AND_KEYS = ("q_proj", "k_proj", "qkv", "query", "kv_a", "kv_b", "q_a", "q_b", "Wqkv")


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One published variant."""

    family: str
    published: str
    target_length: int
    expected: str
    config: Mapping[str, Any] = field(hash=False)
    length: int = 0
    pairs: int = 0
    original_length: int | None = None
    export: str | None = None
    attention_factor_matters: bool = True
    listed: bool = True

    @property
    def works(self) -> bool:
        """Whether factors can be found for it."""
        return self.expected == WORKS


@cache
def families() -> tuple[Family, ...]:
    """All of them, in the order of the file."""
    return tuple(Family(**entry) for entry in json.loads(DATA.read_text(encoding="utf-8")))


def family(name: str) -> Family:
    """The one of that name."""
    return next(one for one in families() if one.family == name)


def save_family(one: Family, directory: Path) -> ModelSource:
    """A random checkpoint with the published form of config.json and the pocket model's tokenizer."""
    config = load_config(one.config)
    torch.manual_seed(0)
    model: Any = auto_class(config).from_config(config).float()
    _sharpen(model)
    model.save_pretrained(directory)
    (directory / "config.json").write_text(json.dumps(one.config))
    for name in _TOKENIZER:
        shutil.copyfile(POCKET / name, directory / name)
    return resolve_model(str(directory), original_length=one.original_length)


def family_factors(one: Family, source: ModelSource, *, attention_factor: float = ATTENTION_FACTOR) -> FactorFile:
    """NTK factors, read back from the text of their file."""
    original = source.rope.original_max_position_embeddings
    target = max(2 * original, min(one.target_length, _LONGEST))
    scaling = Scaling(baseline("ntk", source.rope, target).scaling.factors, attention_factor)
    identity = ModelIdentity.of(source.rope, name=one.family)
    return FactorFile.from_json(FactorFile.of(source.rope, scaling, model=identity, target_length=target).to_json())


@torch.no_grad()
def _sharpen(model: Any) -> None:
    """Weights under which attention is far from uniform and no layer drowns another."""
    scales = [one for one in (getattr(module, "scaling", None) for module in model.modules()) if isinstance(one, float)]
    plain = _DAMPED_WEIGHTS if any("multiplier" in key for key in model.config.to_dict()) else _WEIGHTS
    for name, weights in model.named_parameters():
        if weights.ndim < 2:
            continue
        is_sharp = any(part in name for part in _QUERIES_AND_KEYS)
        sharp = math.sqrt(_SPREAD / (weights.shape[-1] * _HEAD * (min(scales) if scales else 1 / _HEAD)))
        weights.normal_(0.0, sharp if is_sharp else plain)
    # And logits that are not all alike, whatever they are divided by.
    spread = model.eval()(input_ids=torch.arange(1, 9)[None], use_cache=False).logits.std().item()
    if spread < _LEAST_SPREAD:
        model.get_output_embeddings().weight.mul_(1.0 / spread)
