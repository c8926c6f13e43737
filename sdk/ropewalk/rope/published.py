"""What a published model's own scaling makes of its frequencies, and where its config keeps them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ropewalk.errors import UnsupportedRope


@dataclass(frozen=True, slots=True)
class PairFactors:
    """lambda0_i, ``short_factor[i]`` of a model that is scaled already: finite and positive, in no order.

    Llama-3's and YaRN's fall by a rounding error from one pair to the next, and a proportional embedding has values
    below 1. The rules of :class:`ropewalk.rope.rescale_factors.RescaleFactors` are for what a search multiplies.

    Raises:
        UnsupportedRope: no value, or one that is not a finite positive number.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(float(value) for value in self.values))
        if not self.values:
            raise UnsupportedRope("factors must hold one value per pair, but got none")
        for i, value in enumerate(self.values):
            if not (math.isfinite(value) and value > 0):
                raise UnsupportedRope(f"factors must be finite and positive, but got values[{i}]={value!r}")

    def __len__(self) -> int:
        return len(self.values)

    def as_array(self) -> NDArray[np.float64]:
        """The values as a fresh float64 array, (n,)."""
        return np.array(self.values, dtype=np.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedScaling:
    """The scaling that a model comes with, as factors: lambda0_i = base frequency / effective frequency, and A0.

    A search multiplies both. `rope_type` is transformers' name for it; no formula reads it.
    """

    rope_type: str
    factors: PairFactors
    attention_factor: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.attention_factor) and self.attention_factor > 0):
            raise UnsupportedRope(f"attention_factor must be finite and positive, but got {self.attention_factor!r}")


@dataclass(frozen=True, slots=True)
class CarriedKeys:
    """Keys among a model's rope parameters that change its arithmetic and are no factors: every export repeats them.

    Such as ``mrope_section``, and ``mscale_all_dim`` with the old ``factor``, by which DeepSeek scales its softmax.
    """

    text: str = "{}"
    """A JSON object, its keys sorted: so that the value is hashable."""

    @classmethod
    def of(cls, keys: Mapping[str, object]) -> CarriedKeys:
        """From a mapping of JSON values."""
        return cls(json.dumps(dict(keys), sort_keys=True, allow_nan=False))

    def as_dict(self) -> dict[str, object]:
        """A fresh mapping."""
        keys: dict[str, object] = json.loads(self.text)
        return keys

    def __bool__(self) -> bool:
        return self.text != "{}"


NO_KEYS = CarriedKeys()


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigPlace:
    """Where a config keeps the rope parameters that are rescaled, and what must stand beside them.

    The defaults are those of a plain model: at the top level, one rope for all layers.
    """

    section: str | None = None
    """The nested config, ``text_config``."""
    layer_type: str | None = None
    """The layers that are rescaled, ``full_attention``, where rope parameters differ by type of layer."""
    carried: CarriedKeys = NO_KEYS
    others: CarriedKeys = NO_KEYS
    """Rope parameters of the other layer types, by their names."""
    head_dim: int | None = None
    """To be stated, because the family's config class has none and the reader of ``longrope`` needs it."""
    table_pairs: int | None = None
    """Pairs of a rotary table, where the last ones do not turn; None: all of them do."""
    switch_length: int | None = None
    """``original_max_position_embeddings``, where the model's arithmetic reads it too; None: L."""
    own_switch: int | None = None
    """Tokens up to which the model as published rotates by other factors than at L; no export can hold a third set."""
    clears_scaling: bool = False
    """Whether the published config has a ``rope_scaling``, which would win over an export's rope parameters."""
    per_layer: bool = False
    """Whether sizes differ by layer, so that the reader of ``longrope`` must be allowed to look at the common ones."""
    interleaved: bool = False
    """Whether neighbours in a head are a pair, not numbers of its two halves, which is all that some readers know."""
    hf_refusal: str | None = None
    """Why no config of transformers can hold factors for this family."""
    vllm_refusal: str | None = None
    """Why vLLM, which has code of its own for this family, reads no factors from its config."""


PLAIN_PLACE = ConfigPlace()
