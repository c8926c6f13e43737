"""Keys of a transformers ``config.json``. What its readers do with ``longrope`` decides what is written:

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

import json
from collections.abc import Mapping

from search_space.factors.exports.row import ExportRow
from search_space.factors.factor_file import FactorFile


def hf_config_fragment(file: FactorFile) -> Mapping[str, object]:
    """The keys of ``config.json`` to replace; everything else stays as it is."""
    return {
        "max_position_embeddings": file.target_length,
        "original_max_position_embeddings": file.original_max_position_embeddings,
        "rope_parameters": _rope_parameters(file),
    }


def _rope_parameters(file: FactorFile) -> Mapping[str, object]:
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


def _write(file: FactorFile) -> str:
    return json.dumps(hf_config_fragment(file), indent=2, allow_nan=False) + "\n"


def _notes(file: FactorFile) -> tuple[str, ...]:
    length, factor = file.original_max_position_embeddings, file.attention_factor
    notes = [
        f"transformers chooses per forward pass: short_factor up to {length} tokens, long_factor beyond; most model "
        f"families keep their cache, so text generated across {length} tokens reads keys rotated by short_factor.",
        "transformers does not know short_mscale and long_mscale, which vLLM reads, and warns of them.",
    ]
    if factor != 1.0:
        notes.append(f"transformers applies attention_factor {factor:.4f} to inputs within {length} tokens too.")
    return tuple(notes)


ROW = ExportRow(name="hf", summary="keys of config.json to merge, for transformers", write=_write, notes=_notes)
