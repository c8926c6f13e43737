"""What published work says of how well models like this one are extended: a prior, never a verdict.

OlmPool varied four choices over 26 models of 7 billion parameters, all trained and extended alike: normalisation,
grouped-query attention, windows, and the length of pretraining. The last one is in no config.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.architecture.layers import Layers
from ropewalk.wire.inspection import Prior

if TYPE_CHECKING:
    from evaluation.architecture.reading import Architecture
    from evaluation.architecture.structure import Structure

OLMPOOL = "openreview.net/forum?id=MRXATMdzeC (OlmPool)"
OLMO_3 = "arXiv 2512.13961 (OLMo 3)"
STRING = "arXiv 2410.18745 (STRING)"
_ALONE = "such a choice alone cost little quality in 26 controlled models of 7 billion parameters, extended to 64k"


def priors(architecture: Architecture) -> tuple[Prior, ...]:
    """Those that apply to a model."""
    layers, structure = architecture.layers, architecture.structure
    varied = [fact for fact in (_normalisation(structure), _grouping(structure), _windows(layers)) if fact is not None]
    found = [Prior(fact=fact, evidence=_ALONE, source=OLMPOOL) for fact in varied]
    if len(varied) == 3:
        found.append(
            Prior(
                fact="these are three of the four choices that were varied there",
                evidence="three or more together cost up to 47 % of long-context scores, which neither loss nor "
                "scores on short text foretold; Llama 3, on which most recipes were tried, extends unusually easily",
                source=OLMPOOL,
            )
        )
    if architecture.rope.place.layer_type is not None and _windows(layers) is not None:
        found.append(
            Prior(
                fact="the layers with a window have a rotary embedding of their own",
                evidence="OLMo 3 went from 8k to 65k tokens with YaRN on the full-attention layers alone",
                source=OLMO_3,
            )
        )
    return (*found, _effective(architecture.rope.original_max_position_embeddings))


def _normalisation(structure: Structure) -> str | None:
    places = {
        "before": None,
        "after": "it normalises what comes out of attention and MLP instead of what goes in",
        "around": "it normalises what comes out of attention and MLP as well as what goes in",
    }
    said = [places[structure.norms], "it normalises queries and keys" if structure.qk_norm else None]
    return ", and ".join(clause for clause in said if clause is not None) or None


def _grouping(structure: Structure) -> str | None:
    groups = structure.query_groups
    return None if groups is None or groups < 2 else f"{groups} query heads share each key and value head"


def _windows(layers: Layers) -> str | None:
    windowed = sum(layer.window is not None for layer in layers.all)
    return f"{windowed} of {len(layers.all)} layers see a window only" if windowed else None


def _effective(length: int) -> Prior:
    return Prior(
        fact=f"it serves {length} tokens",
        evidence="open models used at most about half of the length that they were trained for: evaluate within L too",
        source=STRING,
    )
