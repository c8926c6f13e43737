"""What llama.cpp does with the factors in a GGUF, which :mod:`finetune.output.gguf` writes."""

from __future__ import annotations

from ropewalk.errors import InvalidFactorFile
from ropewalk.factors.exports.row import ExportRow, own_rule
from ropewalk.factors.factor_file import FactorFile


def check_holds(file: FactorFile) -> None:
    """Raise InvalidFactorFile when a GGUF has no place for what the factor file says of the model."""
    place = file.place
    lost = sorted(set(place.carried.as_dict()) - {"partial_rotary_factor"})
    if place.layer_type is not None:
        problem = f"it has one set of them for all layers, and in this model only those of {place.layer_type} have it"
    elif place.table_pairs is not None:
        problem = f"it has a factor for every pair, and of this model's {place.table_pairs} only the first ones turn"
    elif lost:
        problem = f"beside longrope llama.cpp ignores {', '.join(lost)}, by which this model computes too"
    else:
        return
    raise InvalidFactorFile(f"a GGUF must be able to hold the factors, but {problem}")


def _notes(file: FactorFile) -> tuple[str, ...]:
    length, factor = file.original_max_position_embeddings, file.attention_factor
    return (
        f"llama.cpp chooses once, when it makes a context: with more than {length} tokens per sequence (--ctx-size "
        "over --parallel) it uses the long factors at every position, short prompts included, else the short ones.",
        f"llama.cpp applies rope.scaling.attn_factor {factor:.4f} at every length; its own converter, given the hf "
        f"export, ignores attention_factor and would write {own_rule(file):.4f} by its own rule.",
    )


ROW = ExportRow(
    name="gguf",
    summary="a copy of the model's GGUF with the factors in it",
    write=None,
    notes=_notes,
    check=check_holds,
)
