"""The value of vLLM's ``--hf-overrides``: what `hf` writes, on one line, as vLLM 0.32 reads it.

vLLM chooses short or long factors once, at start, by ``--max-model-len``: always pass that as well. Objects of a nested
section are merged into the config's, and rope parameters of a model without one are replaced as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ropewalk.errors import InvalidFactorFile
from ropewalk.factors.exports.hf import hf_config_fragment, switch_length
from ropewalk.factors.exports.row import ExportRow, own_rule
from ropewalk.factors.factor_file import FactorFile
from ropewalk.rope.published import ConfigPlace


def query_scale(place: ConfigPlace) -> dict[str, object]:
    """The key, if any, under which vLLM wants what Ministral's queries grow with their position by."""
    beta = place.carried.as_dict().get("llama_4_scaling_beta")
    if beta is None:
        return {}
    return {"llama_4_scaling": {"beta": beta, "original_max_position_embeddings": place.switch_length}}


def _write(file: FactorFile) -> str:
    """One line, to be given as one argument."""
    if (problem := _problem(file.place)) is not None:
        raise InvalidFactorFile(f"vLLM must be able to hold the factors, but {problem}")
    place, fragment = file.place, dict(hf_config_fragment(file))
    inner = fragment if place.section is None else fragment[place.section]
    assert isinstance(inner, Mapping)
    # What wins in transformers' files is an alias in vLLM, which would empty the rope parameters.
    text = {key: value for key, value in inner.items() if key != "rope_scaling"} | query_scale(place)
    return json.dumps(text if place.section is None else {place.section: text}, allow_nan=False) + "\n"


def _problem(place: ConfigPlace) -> str | None:
    """Why vLLM's class for longrope does not rotate as the model was scored."""
    if place.vllm_refusal is not None:
        return place.vllm_refusal
    if place.interleaved:
        return (
            "its class for longrope pairs numbers of a head's two halves (is_neox_style), and in this model neighbours "
            "are a pair"
        )
    carried = place.carried.as_dict()
    if "mrope_section" in carried and place.section is not None:
        return "its class for longrope knows one position per token, and this model has three (mrope_section)"
    if carried.get("mscale_all_dim") and "llama_4_scaling_beta" not in carried:
        return "it takes any scaling of a model with mscale_all_dim for YaRN"
    return None


def _notes(file: FactorFile) -> tuple[str, ...]:
    length, factor = switch_length(file), file.attention_factor
    return (
        f"vLLM chooses once, at start: with --max-model-len above {length} it uses long_factor at every position and "
        f"ignores short_factor, for short prompts too; with at most {length} it uses short_factor. Always pass it.",
        f"With ropewalk[vllm] installed beside vLLM 0.32, each request gets short_factor up to {length} tokens and "
        "long_factor past them, in one engine.",
        f"vLLM ignores attention_factor and factor: it applies {factor:.4f} because short_mscale and long_mscale say "
        f"so, and by its own rule would apply {own_rule(file):.4f}.",
        "vLLM runs some families by transformers' code (OLMo, GPT-NeoX, SmolLM3 and others), which chooses in every "
        "step instead: serve those from a checkpoint with the hf-long export.",
    )


ROW = ExportRow(name="vllm", summary="the value of vLLM's --hf-overrides", write=_write, notes=_notes)
