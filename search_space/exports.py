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
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping

from search_space.errors import InvalidFactorFile
from search_space.factor_file import FactorFile
from search_space.rope import compute_inv_freq


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


def _json(file: FactorFile) -> str:
    return file.to_json()


def _hf(file: FactorFile) -> str:
    return json.dumps(hf_config_fragment(file), indent=2, allow_nan=False) + "\n"


def _vllm(file: FactorFile) -> str:
    """One line, to be given as one argument."""
    return json.dumps(vllm_hf_overrides(file), allow_nan=False) + "\n"


def _csv(file: FactorFile) -> str:
    """A row per pair: its factor, its rescaled angle per position in radians, and the positions per period of that."""
    inv_freq = compute_inv_freq(file.rope, file.long_factor).tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("pair", "long_factor", "inv_freq", "wavelength"))
    for pair, (factor, frequency) in enumerate(zip(file.long_factor.values, inv_freq, strict=True)):
        writer.writerow((pair, repr(factor), repr(frequency), repr(2.0 * math.pi / frequency)))
    return text.getvalue()


_WRITERS: dict[str, Callable[[FactorFile], str]] = {"json": _json, "hf": _hf, "vllm": _vllm, "csv": _csv}
EXPORT_FORMATS: tuple[str, ...] = tuple(_WRITERS)


def export(file: FactorFile, format: str) -> str:
    """`file` as text in `format`.

    Raises:
        InvalidFactorFile: `format` is not one of ``EXPORT_FORMATS``.
    """
    writer = _WRITERS.get(format)
    if writer is None:
        raise InvalidFactorFile(f"export format must be one of {', '.join(EXPORT_FORMATS)}, but got {format!r}")
    return writer(file)
