"""Keys of a ``config.json`` for mlx-lm, which reads no attention factor: it computes one from
``max_position_embeddings``, and runs by it in no other way. The export therefore carries the length that leads to the
attention factor that was scored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from ropewalk.errors import InvalidFactorFile
from ropewalk.factors.exports.row import ExportRow, own_rule, rule
from ropewalk.factors.factor_file import FactorFile
from ropewalk.rope.published import ConfigPlace


def _fragment(file: FactorFile) -> Mapping[str, object]:
    """The keys of ``config.json`` to replace for mlx-lm, whose models read ``rope_scaling`` with ``rope_theta`` beside.

    Both names of the rope type are given: the Phi-3 family reads ``type``, the others either.

    Raises:
        InvalidFactorFile: the model's rope parameters say more than mlx-lm reads of them.
    """
    if (problem := _problem(file.place)) is not None:
        raise InvalidFactorFile(f"mlx-lm must be able to hold the factors, but {problem}")
    length = file.original_max_position_embeddings
    partial = file.model.partial_rotary_factor
    return {
        "max_position_embeddings": _max_position_embeddings(file),
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


def _problem(place: ConfigPlace) -> str | None:
    """Why mlx-lm does not rotate with these factors as the model was scored."""
    if place.layer_type is not None:
        return f"it reads one rope_scaling for all layers, and in this model only those of {place.layer_type} have it"
    if place.section is not None:
        return f"it reads rope_scaling at the top of the config, and this model has its rope in {place.section}"
    if place.table_pairs is not None:
        return f"it turns every pair of its table, and of this model's {place.table_pairs} only the first ones turn"
    if place.interleaved:
        return "its longrope pairs numbers of a head's two halves, and in this model neighbours are a pair"
    if lost := sorted(set(place.carried.as_dict()) - {"partial_rotary_factor"}):
        return f"beside longrope it ignores {', '.join(lost)}, by which this model computes too"
    return None


def _max_position_embeddings(file: FactorFile) -> int:
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


def _write(file: FactorFile) -> str:
    return json.dumps(_fragment(file), indent=2, allow_nan=False) + "\n"


def _notes(file: FactorFile) -> tuple[str, ...]:
    length, target = file.original_max_position_embeddings, _max_position_embeddings(file)
    applied = rule(target, length)
    exact = "" if abs(applied - file.attention_factor) < 5e-5 else ", the nearest that it can"
    return (
        "mlx-lm ignores short_factor: it uses long_factor at every position, short prompts included.",
        f"mlx-lm ignores attention_factor and computes one from max_position_embeddings: {own_rule(file):.4f} for the "
        f"target length {file.target_length}, where the factors were scored with {file.attention_factor:.4f}. "
        f"max_position_embeddings is therefore {target} here, not the context length, and mlx-lm applies "
        f"{applied:.4f}{exact}.",
    )


ROW = ExportRow(name="mlx", summary="keys of config.json to merge, for mlx-lm", write=_write, notes=_notes)
