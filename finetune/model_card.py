"""The README.md of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.model_source import ModelSource
from finetune.config import FinetuneSettings
from search_space.factor_file import FactorFile
from search_space.version import ROPEWALK_VERSION

if TYPE_CHECKING:
    from finetune.job import FinetuneResult

_CARD = """\
---
library_name: transformers
tags: [longrope, long-context]
---

# {name}, context extended to {target} tokens

{name} was trained on windows of {original} tokens. This checkpoint reads {target}: RoPE rescale factors ({found}) and
{steps} steps of mixed-context-window training (LongRoPE2, arXiv 2502.20082) by Ropewalk {version}.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/this/directory")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/directory")
```

| training | |
|---|---|
| steps, learning rate | {steps}, {learning_rate:g} (AdamW, warm-up {warmup}, cosine) |
| per step, long factors | {long_rows} documents of {target} tokens |
| per step, original RoPE | {short_rows} sequences of {target} tokens, packed from documents of at most {original} |
| tokens | {tokens:,} |
| corpus | {corpus}, train split |
| loss, long documents | {long_losses} |
| loss, short documents | {short_losses} |
| attention factor | {attention_factor:g} |
| seed | {seed} |

{validation}
## How it switches

Up to {original} tokens the short factors, all 1, are used: original RoPE{short_note}. Past that, `long_factor`.

- transformers decides per forward pass by the largest position. When generation crosses {original} tokens, the keys
  cached before were rotated by the short factors: start the crossing with a fresh cache.
- vLLM decides once per engine: `max_model_len` above {original} uses the long factors at every position.

`factors.json` holds the factors and where they come from.
"""

_VALIDATION = """\
On {documents} held-out needle documents of {target} tokens, **before** this training, the factors gave NLL {nll:.4f}
nats per answer token and exact match {exact_match:.3f} (best baseline, {best}: NLL {best_nll:.4f}).
"""


def model_card(source: ModelSource, file: FactorFile, settings: FinetuneSettings, result: FinetuneResult) -> str:
    """Markdown that says what the checkpoint is, how it was made and how it must be used."""
    return _CARD.format(
        name=_display_name(source),
        target=file.target_length,
        original=file.original_max_position_embeddings,
        found=f"search `{file.search.id}`, trial {file.search.trial}" if file.search else "not from a search",
        version=ROPEWALK_VERSION,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        warmup=settings.warmup_steps,
        long_rows=settings.long_documents_per_step,
        short_rows=settings.short_sequences_per_step,
        tokens=result.tokens,
        corpus=settings.corpus or "built-in (the Python reference)",
        long_losses=_losses(result.initial_loss_long, result.final_loss_long),
        short_losses=_losses(result.initial_loss_short, result.final_loss_short),
        attention_factor=file.attention_factor,
        short_note="" if file.attention_factor == 1 else ", with the attention factor, as it was trained",
        seed=settings.seed,
        validation=_validation(file),
    )


def _display_name(source: ModelSource) -> str:
    """A hub id or an alias as it is; of a directory only the last part, for cards travel."""
    return source.path.name if Path(source.name).is_absolute() else source.name


def _losses(initial: float | None, final: float | None) -> str:
    if initial is None or final is None:
        return "not trained on"
    return f"{initial:.3f} over the first steps, {final:.3f} over the last (weighted nats per token)"


def _validation(file: FactorFile) -> str:
    if file.validation is None:
        return ""
    return _VALIDATION.format(
        documents=file.validation.documents,
        target=file.target_length,
        nll=file.validation.nll,
        exact_match=file.validation.exact_match,
        best=file.validation.best_baseline,
        best_nll=file.validation.best_baseline_nll,
    )
