"""What llama.cpp does with the factors in a GGUF, which :mod:`finetune.output.gguf` writes."""

from __future__ import annotations

from search_space.factors.exports.row import ExportRow, own_rule
from search_space.factors.factor_file import FactorFile


def _notes(file: FactorFile) -> tuple[str, ...]:
    length, factor = file.original_max_position_embeddings, file.attention_factor
    return (
        f"llama.cpp chooses once, when it makes a context: with more than {length} tokens per sequence (--ctx-size "
        "over --parallel) it uses the long factors at every position, short prompts included, else the short ones.",
        f"llama.cpp applies rope.scaling.attn_factor {factor:.4f} at every length; its own converter, given the hf "
        f"export, ignores attention_factor and would write {own_rule(file):.4f} by its own rule.",
    )


ROW = ExportRow(name="gguf", summary="a copy of the model's GGUF with the factors in it", write=None, notes=_notes)
