"""Keys of a transformers ``config.json``. What its readers do with ``longrope`` decides what is written:

- transformers takes ``attention_factor`` and applies it to short and long inputs alike; vLLM ignores it and takes
  ``short_mscale`` and ``long_mscale``. The attention factor is therefore written three times. Left out, each consumer
  would put its own rule in its place, and the model would not be the one that was scored.
- ``factor`` is exactly target_length / original_max_position_embeddings: another value would move transformers' default
  scale but not vLLM's.
- ``original_max_position_embeddings`` stands both at the top level and among the rope parameters: without it
  transformers never uses the long factors, and the top level is where vLLM looks for its default length.
- ``ropewalk_short_mscale`` is for the plugin of vLLM, which uses the short factors within the original length: the
  attention factor beside them there, and the sign that the config is one of Ropewalk's.
- ``rope_theta``, and ``partial_rotary_factor`` where it is not 1, are repeated, because overriding replaces the rope
  parameters as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from ropewalk.errors import InvalidFactorFile
from ropewalk.factors.exports.row import ExportRow
from ropewalk.factors.factor_file import FactorFile

SHORT_MSCALE = "ropewalk_short_mscale"
_STILL = 1e30


def hf_config_fragment(file: FactorFile, *, short_mscale: float | None = None) -> Mapping[str, object]:
    """The keys of ``config.json`` to replace; everything else stays as it is.

    A ``rope_scaling`` of the model's own would win over ``rope_parameters`` in transformers: null takes it out.
    `short_mscale` is the attention factor that short texts are served with where that can be chosen: of a model that
    was trained with another one than it came with.

    Raises:
        InvalidFactorFile: the family's class in transformers cannot hold factors.
    """
    place = file.place
    if place.hf_refusal is not None:
        raise InvalidFactorFile(f"transformers must be able to hold the factors, but {place.hf_refusal}")
    parameters = longrope_parameters(file, short_mscale=short_mscale)
    if place.layer_type is not None:
        parameters = {**place.others.as_dict(), place.layer_type: parameters}
    fragment: dict[str, object] = {
        "max_position_embeddings": file.target_length,
        "original_max_position_embeddings": switch_length(file),
        "rope_parameters": parameters,
    }
    if place.clears_scaling:
        fragment["rope_scaling"] = None
    if place.per_layer:
        fragment["allow_global_per_layer_attribute_access"] = True
    if place.head_dim is not None:
        fragment["head_dim"] = place.head_dim
    return fragment if place.section is None else {place.section: fragment}


def merged_config(
    config: Mapping[str, object], file: FactorFile, *, short_mscale: float | None = None
) -> dict[str, object]:
    """A model's ``config.json`` with the keys of the hf export in it, section by section.

    A config without the nested section that the factors were found for is that section itself: a text decoder is saved
    alone.
    """
    return _merged(config, dict(_own_fragment(config, file, short_mscale)))


def switch_length(file: FactorFile) -> int:
    """``original_max_position_embeddings``: up to where consumers use the short factors."""
    return file.place.switch_length or file.original_max_position_embeddings


def longrope_parameters(file: FactorFile, *, short_mscale: float | None = None) -> dict[str, object]:
    """The rope parameters of a transformers v5 config, whole, of the layers that are rescaled."""
    short, long = _table_factors(file)
    parameters: dict[str, object] = {
        "rope_type": "longrope",
        "rope_theta": file.model.rope_theta,
        "factor": file.target_length / switch_length(file),
        "original_max_position_embeddings": switch_length(file),
        "short_factor": short,
        "long_factor": long,
        "attention_factor": file.attention_factor,
        "short_mscale": file.attention_factor,
        "long_mscale": file.attention_factor,
        SHORT_MSCALE: file.own_attention_factor if short_mscale is None else short_mscale,
    }
    if file.model.partial_rotary_factor != 1.0:
        parameters["partial_rotary_factor"] = file.model.partial_rotary_factor
    return parameters | file.place.carried.as_dict()


def _own_fragment(config: Mapping[str, object], file: FactorFile, short_mscale: float | None) -> Mapping[str, object]:
    fragment, section = hf_config_fragment(file, short_mscale=short_mscale), file.place.section
    inner = None if section is None else fragment[section]
    return inner if isinstance(inner, Mapping) and section not in config else fragment


def _merged(config: Mapping[str, object], fragment: Mapping[str, object]) -> dict[str, object]:
    """Objects are merged, except rope parameters, which are whole."""
    result = dict(config)
    for key, value in fragment.items():
        inner = result.get(key)
        nested = key not in ("rope_parameters", "rope_scaling") and isinstance(inner, Mapping)
        result[key] = _merged(inner, value) if nested and isinstance(value, Mapping) else value  # type: ignore[arg-type]
    return result


def _table_factors(file: FactorFile) -> tuple[list[float], list[float]]:
    """Short and long factors of every pair of the consumer's table.

    A table with pairs that do not turn has a wider base: theta^(2i / width of the table) instead of the rotary width.
    The pairs beyond get a factor at which they turn by less than float32 can tell over any length.
    """
    pairs = file.place.table_pairs
    if pairs is None:
        return list(file.short_factor.values), list(file.long_factor.values)
    turning = np.arange(len(file.long_factor)) * 2.0
    moved = file.model.rope_theta ** (turning / file.model.rotary_dim - turning / (2 * pairs))
    still = [_STILL] * (pairs - len(turning))
    return (
        [*(file.short_factor.as_array() * moved).tolist(), *still],
        [*(file.long_factor.as_array() * moved).tolist(), *still],
    )


def _write(file: FactorFile) -> str:
    return json.dumps(hf_config_fragment(file), indent=2, allow_nan=False) + "\n"


def _notes(file: FactorFile) -> tuple[str, ...]:
    length, factor = switch_length(file), file.attention_factor
    notes = [
        f"transformers chooses per forward pass: short_factor up to {length} tokens, long_factor beyond; most model "
        f"families keep their cache, so text generated across {length} tokens reads keys rotated by short_factor.",
        "transformers does not know short_mscale, long_mscale and ropewalk_short_mscale, which vLLM and its plugin "
        "read, and warns of them.",
    ]
    place = file.place
    if place.layer_type is not None:
        notes.append(
            "transformers 5.19 fails in its second forward pass past the original length where rope parameters differ "
            "by layer type (UnboundLocalError: long_inv_freq): use hf-long there, or load the model anew after a pass."
        )
    if place.own_switch is not None:
        notes.append(
            f"the published model rotates by other factors up to {place.own_switch} tokens; a config holds two sets, "
            f"so that those it has at {length} tokens serve all texts up to there."
        )
    if place.switch_length is not None:
        notes.append(
            f"the model's attention reads original_max_position_embeddings too, so it stays {length}: the long factors "
            f"are used from there on, not only past {file.original_max_position_embeddings} tokens."
        )
    if factor != 1.0:
        notes.append(f"transformers applies attention_factor {factor:.4f} to inputs within {length} tokens too.")
    return tuple(notes)


ROW = ExportRow(name="hf", summary="keys of config.json to merge, for transformers", write=_write, notes=_notes)
