"""LoRA adapters by `peft`: trained instead of the weights, and merged into them.

An adapter directory is no model: the RoPE that it was trained with is not in it, so a program that loads base model
and adapter would run it with the base model's. `merge_adapter` makes the whole checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from evaluation.models.fitting import resolve_for
from evaluation.models.source import ModelSource
from finetune.config import FinetuneSettings
from finetune.errors import InvalidAdapter
from finetune.extras import check_installed
from finetune.language_model import load_model
from finetune.output.checkpoint import check_output, write_checkpoint, write_output
from finetune.output.fitting import check_fits
from finetune.output.model_card import MERGE_SECTION
from finetune.output.output_files import ADAPTER_CONFIG, CARD_NAME, FACTORS_NAME, is_adapter
from ropewalk.errors import RopewalkError
from ropewalk.factors.factor_file import FactorFile

_FROZEN_MATRIX = ".base_layer.weight"  # peft's name of what an adapter is beside


def _peft() -> ModuleType:
    check_installed("peft", extra="lora", wanted="an adapter")
    import peft

    module: ModuleType = peft
    return module


def add_adapters(model: PreTrainedModel, settings: FinetuneSettings) -> Any:
    """Put an adapter on every linear layer but the head, in place, and freeze everything else.

    Returns peft's own model, which `write_adapter` needs. Raises InvalidFinetuneSettings without peft.
    """
    peft = _peft()
    config = peft.LoraConfig(
        r=settings.lora_rank, lora_alpha=settings.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return peft.get_peft_model(model, config)


def hold_frozen(model: nn.Module, dtype: torch.dtype) -> None:
    """Hold the matrices under adapters in the type that a pass casts them to anyway: no result changes, and half of the
    memory is free. To be called once all passes are under autocast; embeddings, head and norms stay as they are.
    """
    for name, weight in model.named_parameters():
        if name.endswith(_FROZEN_MATRIX) and not weight.requires_grad:
            weight.data = weight.data.to(dtype)


def write_adapter(adapted: Any, *, source: ModelSource, file: FactorFile, model_card: str, output: Path) -> None:
    """Write the adapter directory `output`: adapter, factors, tokenizer, model card. Raises as `write_checkpoint`."""
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = file.model.name

    def write_model(directory: Path) -> None:
        adapted.save_pretrained(directory)

    write_output(write_model, source=source, file=file, model_card=model_card + MERGE_SECTION, output=output)


def merge_adapter(adapter: Path, output: Path, *, model: str | None = None) -> FactorFile:
    """Write the whole checkpoint of an adapter directory to `output`, a new or empty directory; returns its factors.

    model: where the base model is; None is the one that the factors name.

    Raises InvalidAdapter; FactorsDoNotFit when `model` is another one; OutputNotEmpty; InvalidFinetuneSettings without
    peft; the errors of `evaluation` for the model.
    """
    check_output(output)
    if not is_adapter(adapter):
        raise InvalidAdapter(f"an adapter directory must hold {ADAPTER_CONFIG}, but {adapter} does not")
    try:
        file = FactorFile.from_json((adapter / FACTORS_NAME).read_text(encoding="utf-8"))
        card = (adapter / CARD_NAME).read_text(encoding="utf-8")
    except (OSError, RopewalkError) as error:
        raise InvalidAdapter(f"{adapter} must hold {FACTORS_NAME} and {CARD_NAME}, but: {error}") from error
    source = resolve_for(file, model or file.model.reference)
    check_fits(source, file)
    peft = _peft()
    try:
        adapted = peft.PeftModel.from_pretrained(load_model(source.path), str(adapter))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InvalidAdapter(f"{adapter} must hold an adapter of {source.name}, but: {error}") from error
    merged = adapted.merge_and_unload()
    write_checkpoint(
        merged, source=source, file=file, model_card=card.partition(MERGE_SECTION)[0] + "\n", output=output
    )
    return file
