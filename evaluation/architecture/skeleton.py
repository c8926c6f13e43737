"""A model on the meta device: every module of its class, and no weights."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

from evaluation.architecture.config import said_by
from ropewalk.errors import UnsupportedRope
from ropewalk.models.rotary import text_config

# What loads a checkpoint whose decoder can be scored, in the order in which they are asked.
AUTO_CLASSES = (transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText)


def build_skeleton(config: Any) -> nn.Module:
    """The model of `config`, on the meta device.

    Raises:
        UnsupportedRope: transformers has no language model for the config, or its class refuses it.
    """
    auto = auto_class(config)
    try:
        with torch.device("meta"):
            model: nn.Module = auto.from_config(config)
            return model
    except Exception as error:  # whatever the class raises for sizes that do not fit
        raise UnsupportedRope(
            f"transformers must be able to build the model, but its class for {config.model_type} says: "
            f"{said_by(error)}"
        ) from error


def auto_class(config: Any) -> Any:
    """The automatic class of transformers that loads a language model of this config. Raises UnsupportedRope."""
    for auto in AUTO_CLASSES:
        if type(config) in auto._model_mapping:
            return auto
    raise UnsupportedRope(
        "the model must generate text, but transformers has neither a causal language model nor an image-text-to-text "
        f"model for model_type={config.model_type!r}"
    )


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of the text decoder, first to last; none where they are not in one list."""
    config = text_config(model)
    counts = {getattr(config, name, None) for name in ("num_hidden_layers", "num_layers")}
    found = [
        list(module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) in counts and _is_of_decoder(name)
    ]
    return found[0] if found else []


def _is_of_decoder(name: str) -> bool:
    return not any(part in name for part in ("vision", "visual", "audio", "encoder.", "tower", "mtp"))
