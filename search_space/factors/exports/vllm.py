"""The value of vLLM's ``--hf-overrides``: what `hf` writes, on one line.

vLLM chooses short or long factors once, at start, by ``--max-model-len``: always pass that as well.
"""

from __future__ import annotations

import json

from search_space.factors.exports.hf import hf_config_fragment
from search_space.factors.exports.row import ExportRow, own_rule
from search_space.factors.factor_file import FactorFile


def _write(file: FactorFile) -> str:
    """One line, to be given as one argument."""
    return json.dumps(hf_config_fragment(file), allow_nan=False) + "\n"


def _notes(file: FactorFile) -> tuple[str, ...]:
    length, factor = file.original_max_position_embeddings, file.attention_factor
    return (
        f"vLLM chooses once, at start: with --max-model-len above {length} it uses long_factor at every position and "
        f"ignores short_factor, for short prompts too; with at most {length} it uses short_factor. Always pass it.",
        f"vLLM ignores attention_factor and factor: it applies {factor:.4f} because short_mscale and long_mscale say "
        f"so, and by its own rule would apply {own_rule(file):.4f}.",
    )


ROW = ExportRow(name="vllm", summary="the value of vLLM's --hf-overrides", write=_write, notes=_notes)
