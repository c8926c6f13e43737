"""A GGUF as a Hugging Face directory in bfloat16, whatever its quantisation. Needs the package gguf."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_WHOLE = "model.gguf"


def convert(parts: Sequence[Path], output: Path, *, dtype: str = "bfloat16") -> Path:
    """Write weights, config and tokenizer of the GGUF that `parts` make, in this order, to `output`; returns it."""
    import torch
    import transformers

    from finetune.output.checkpoint import no_progress_bars

    output.mkdir(parents=True, exist_ok=True)
    whole = output / _WHOLE
    with whole.open("wb") as stream:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, stream)
    models: Any = transformers.AutoModelForCausalLM
    tokenizers: Any = transformers.AutoTokenizer
    with no_progress_bars():
        model = models.from_pretrained(
            output,
            gguf_file=_WHOLE,
            quantization_config=transformers.GgufConfig(dequantize=True),
            dtype=getattr(torch, dtype),
        )
        tokenizers.from_pretrained(output, gguf_file=_WHOLE).save_pretrained(output)
        model.save_pretrained(output)
    whole.unlink()
    return output
