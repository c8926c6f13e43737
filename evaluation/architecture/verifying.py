"""Whether a config with factors in it loads as the model that was scored."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

from evaluation.architecture.config import load_config
from evaluation.architecture.frequencies import read_rope
from evaluation.architecture.skeleton import build_skeleton
from ropewalk.errors import InvalidFactorFile, UnsupportedRope
from ropewalk.factors.exports.hf import merged_config, switch_length
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.models.rotary import rescaled_parts
from ropewalk.rope.config import RopeConfig, compute_inv_freq
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling

_SAME = 1e-6
_STILL = 1e-20  # radians per position: no turn over any length


def check_loads(config: Mapping[str, object], file: FactorFile) -> None:
    """Raise UnsupportedRope unless transformers makes of `config` with `file` merged into it what was scored.

    Within L the published frequencies, past it the found ones, the attention factor in both, and the same scale of
    every attention layer.
    """
    merged = load_config(merged_config(config, file))
    model = build_skeleton(merged)
    part = rescaled_parts(model)[0]
    lengths = {switch_length(file): None, file.target_length: file.scaling.factors}
    for length, factors in lengths.items():
        found = read_rope(part, merged, original_length=length)
        _check_frequencies(found, compute_inv_freq(file.rope, factors), length)
        if abs(found.attention_factor / file.attention_factor - 1.0) > _SAME:
            raise UnsupportedRope(
                f"a config with factors must load with attention_factor={file.attention_factor}, but transformers "
                f"computes {found.attention_factor} for passes of {length} tokens"
            )
    _check_attention(build_skeleton(load_config(config)), model)


def hf_problem(config: Mapping[str, object], rope: RopeConfig) -> str | None:
    """Why no factors for `rope` can be put into `config`, as a clause; None where they can."""
    length = rope.original_max_position_embeddings
    probe = Scaling(RescaleFactors(tuple(np.linspace(1.0, 3.0, rope.num_pairs).tolist())), 1.25)
    identity = ModelIdentity.of(rope, name="probe")
    try:
        check_loads(config, FactorFile.of(rope, probe, model=identity, target_length=2 * length))
    except (UnsupportedRope, InvalidFactorFile) as error:
        return str(error)
    return None


def _check_frequencies(rope: RopeConfig, expected: NDArray[np.float64], length: int) -> None:
    found, pairs = compute_inv_freq(rope), len(expected)
    alike = len(found) >= pairs and np.allclose(found[:pairs], expected, rtol=_SAME, atol=0.0)
    if not alike or np.any(found[pairs:] > _STILL):
        raise UnsupportedRope(
            f"a config with factors must load as the model that was scored, but for passes of {length} tokens "
            f"transformers computes {found.tolist()} instead of {expected.tolist()}"
        )


def _check_attention(before: nn.Module, after: nn.Module) -> None:
    """Scaling of a model's own may change the scale of its attention layers (DeepSeek): it must be carried."""
    scales = [
        {
            name: float(module.scaling)
            for name, module in model.named_modules()
            if isinstance(getattr(module, "scaling", None), float)
        }
        for model in (before, after)
    ]
    if scales[0] != scales[1]:
        raise UnsupportedRope(
            "a config with factors must leave the scale of the attention layers as it is, but transformers makes "
            f"{sorted(set(scales[1].values()))} of it instead of {sorted(set(scales[0].values()))}"
        )
