"""A model by what its passes cost, read from its config alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.models.source import ModelSource, read_config
from finetune.config import FinetuneSettings
from finetune.memory import ModelSize

if TYPE_CHECKING:  # torch and transformers take seconds, and a server asks for them with the first plan
    from evaluation.architecture.reading import Outline

_BF16_BYTES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedModel:
    """Its files, and what it would take on a GPU in bfloat16."""

    source: ModelSource
    outline: Outline

    @classmethod
    def of(cls, source: ModelSource) -> PlannedModel:
        """Of a model whose weights need not be there."""
        from evaluation.architecture.reading import read_outline

        return cls(source=source, outline=read_outline(read_config(source.path)))

    def scoring_bytes(self, tokens: int, *, ranks: int) -> int:
        """On each of `ranks` devices, for one pass over `tokens` tokens: weights, a whole KV cache, and what a layer
        holds at once, which are four hidden states and the three of a gated MLP."""
        from workers.memory import MemoryNeeded

        outline, structure = self.outline, self.outline.structure
        cache = structure.cache_bytes(outline.layers, tokens) * _BF16_BYTES // structure.item_bytes
        needed = MemoryNeeded(
            weights=structure.parameters * _BF16_BYTES,
            kv_cache=cache // ranks,
            ranks=ranks,
            target_length=tokens,
        )
        return needed.total + tokens * (4 * outline.hidden + 3 * outline.intermediate // ranks) * _BF16_BYTES

    def training_size(self, settings: FinetuneSettings) -> ModelSize:
        """For `finetune.memory`; adapters are counted as if every linear layer had one."""
        outline, weights = self.outline, self.outline.structure.parameters
        layers = len(outline.layers.all)
        adapters = settings.lora_rank * layers * (11 * outline.hidden + 3 * outline.intermediate)
        return ModelSize(
            weights=weights + adapters,
            trained=adapters or weights,
            hidden=outline.hidden,
            layers=layers,
            vocabulary=outline.vocabulary,
            intermediate=outline.intermediate,
        )
