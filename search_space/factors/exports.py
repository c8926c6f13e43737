"""Factors in the forms that other programs load.

What the consumers do with a ``longrope`` config decides what is written:

- transformers takes ``attention_factor`` and applies it to short and long inputs alike; vLLM ignores it and takes
  ``short_mscale`` and ``long_mscale``. The attention factor is therefore written three times. Left out, each consumer
  would put its own rule in its place, and the model would not be the one that was scored.
- ``factor`` is exactly target_length / original_max_position_embeddings: another value would move transformers' default
  scale but not vLLM's.
- ``original_max_position_embeddings`` stands both at the top level and among the rope parameters: without it
  transformers never uses the long factors, and the top level is where vLLM looks for its default length.
- ``rope_theta``, and ``partial_rotary_factor`` where it is not 1, are repeated, because overriding replaces the rope
  parameters as a whole.
- mlx-lm reads no attention factor: it computes one from ``max_position_embeddings``, and runs by it in no other way.
  Its export therefore carries the length that leads to the attention factor that was scored.

What a consumer ignores all the same is said by :func:`search_space.factors.notes.export_notes`. A GGUF holds the
model's weights too and is written by ``finetune.output.gguf``.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping

from search_space.errors import InvalidFactorFile
from search_space.factors.factor_file import FactorFile
from search_space.rope.config import compute_inv_freq


def hf_rope_parameters(file: FactorFile) -> Mapping[str, object]:
    """``rope_parameters`` of a transformers v5 config, whole."""
    parameters: dict[str, object] = {
        "rope_type": "longrope",
        "rope_theta": file.model.rope_theta,
        "factor": file.target_length / file.original_max_position_embeddings,
        "original_max_position_embeddings": file.original_max_position_embeddings,
        "short_factor": list(file.short_factor.values),
        "long_factor": list(file.long_factor.values),
        "attention_factor": file.attention_factor,
        "short_mscale": file.attention_factor,
        "long_mscale": file.attention_factor,
    }
    if file.model.partial_rotary_factor != 1.0:
        parameters["partial_rotary_factor"] = file.model.partial_rotary_factor
    return parameters


def hf_config_fragment(file: FactorFile) -> Mapping[str, object]:
    """The keys of ``config.json`` to replace; everything else stays as it is."""
    return {
        "max_position_embeddings": file.target_length,
        "original_max_position_embeddings": file.original_max_position_embeddings,
        "rope_parameters": hf_rope_parameters(file),
    }


def vllm_hf_overrides(file: FactorFile) -> Mapping[str, object]:
    """The value of vLLM's ``--hf-overrides``.

    vLLM chooses short or long factors once, at start, by ``--max-model-len``: always pass that as well.
    """
    return hf_config_fragment(file)


def mlx_config_fragment(file: FactorFile) -> Mapping[str, object]:
    """The keys of ``config.json`` to replace for mlx-lm, whose models read ``rope_scaling`` with ``rope_theta`` beside.

    Both names of the rope type are given: the Phi-3 family reads ``type``, the others either.
    """
    length = file.original_max_position_embeddings
    partial = file.model.partial_rotary_factor
    return {
        "max_position_embeddings": mlx_max_position_embeddings(file),
        "original_max_position_embeddings": length,
        "rope_theta": file.model.rope_theta,
        **({} if partial == 1.0 else {"partial_rotary_factor": partial}),
        "rope_scaling": {
            "type": "longrope",
            "rope_type": "longrope",
            "original_max_position_embeddings": length,
            "short_factor": list(file.short_factor.values),
            "long_factor": list(file.long_factor.values),
        },
    }


def mlx_max_position_embeddings(file: FactorFile) -> int:
    """m, in tokens, for which mlx-lm's sqrt(1 + ln(m/L) / ln L) is the attention factor A: L^(A^2), rounded.

    L itself for A <= 1, which mlx-lm takes as 1: it never scales by less.

    Raises:
        InvalidFactorFile: no number is large enough.
    """
    length = file.original_max_position_embeddings
    try:
        return max(length, round(math.pow(length, file.attention_factor**2)))
    except OverflowError as error:
        raise InvalidFactorFile(
            f"/attention_factor must be small enough for mlx-lm, but got {file.attention_factor}",
            pointer="/attention_factor",
        ) from error


def _json(file: FactorFile) -> str:
    return file.to_json()


def _hf(file: FactorFile) -> str:
    return json.dumps(hf_config_fragment(file), indent=2, allow_nan=False) + "\n"


def _vllm(file: FactorFile) -> str:
    """One line, to be given as one argument."""
    return json.dumps(vllm_hf_overrides(file), allow_nan=False) + "\n"


def _mlx(file: FactorFile) -> str:
    return json.dumps(mlx_config_fragment(file), indent=2, allow_nan=False) + "\n"


def _csv(file: FactorFile) -> str:
    """A row per pair: its factor, its rescaled angle per position in radians, and the positions per period of that."""
    inv_freq = compute_inv_freq(file.rope, file.long_factor).tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("pair", "long_factor", "inv_freq", "wavelength"))
    for pair, (factor, frequency) in enumerate(zip(file.long_factor.values, inv_freq, strict=True)):
        writer.writerow((pair, repr(factor), repr(frequency), repr(2.0 * math.pi / frequency)))
    return text.getvalue()


_WRITERS: dict[str, Callable[[FactorFile], str]] = {
    "json": _json,
    "hf": _hf,
    "vllm": _vllm,
    "mlx": _mlx,
    "csv": _csv,
}
EXPORT_FORMATS: tuple[str, ...] = tuple(_WRITERS)


def export(file: FactorFile, format: str) -> str:
    """`file` as text in `format`.

    Raises:
        InvalidFactorFile: `format` is not one of ``EXPORT_FORMATS``, or cannot hold the attention factor.
    """
    writer = _WRITERS.get(format)
    if writer is None:
        raise InvalidFactorFile(f"export format must be one of {', '.join(EXPORT_FORMATS)}, but got {format!r}")
    return writer(file)
