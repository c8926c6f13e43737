"""The README.md of a checkpoint."""

from __future__ import annotations

from pathlib import Path

from evaluation.models.source import ModelSource
from finetune.config import KINDS, FinetuneSettings, Kind
from finetune.optimizers import OPTIMIZERS
from finetune.results import FinetuneResult
from finetune.rows import row_tokens
from ropewalk.factors.exports.hf import switch_length
from ropewalk.factors.factor_file import FactorFile
from ropewalk.version import ROPEWALK_VERSION

_CARD = """\
---
library_name: transformers
tags: [longrope, long-context]
---

# {name}, context extended to {target} tokens

{context}. This checkpoint reads {target}: RoPE rescale factors ({found}) and
{steps} steps of mixed-context-window training (LongRoPE2, arXiv 2502.20082) by Ropewalk {version}.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/this/directory")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/directory")
```

| training | |
|---|---|
| steps, learning rate | {steps}, {learning_rate:g} ({optimizer}, warm-up {warmup}, cosine) |
{rows}
| trained | {trained} |
| tokens | {tokens:,} |
| corpus | {corpus}, train split |
| attention factor | {attention_factor:g} |
| seed | {seed} |

Weighted mean loss, nats per token:

| documents | over the first steps | over the last |
|---|---|---|
{losses}

{validation}
## How it switches

Up to {original} tokens the short factors, all 1, are used: original RoPE{short_note}. Past that, `long_factor`.

- transformers decides per forward pass by the largest position. A generation that crosses {original} tokens needs a
  fresh KV cache there: the keys cached before were rotated by the short factors. The Phi-3 family drops its cache by
  itself; Llama, Qwen and Mistral keep it, and the text goes wrong. The Python package of Ropewalk (`sdk/` in its
  repository) reads everything anew at that point, once:

  ```python
  import ropewalk

  ids = ropewalk.generate(model, input_ids, max_new_tokens=2000)
  ```

  Without it, let a prompt within {original} tokens grow to the first token past them, and begin again with that:

  ```python
  short = model.generate(input_ids, max_new_tokens={original} + 1 - input_ids.shape[1])
  ids = model.generate(short, max_new_tokens=2000)
  ```

- vLLM by itself decides once per engine and has no switch to cross: with `max_model_len` above {original} it uses the
  long factors from the first token on, otherwise never. The plugin of the package (`pip install 'ropewalk[vllm]'`,
  for vLLM 0.32) chooses for each request, and reads a text that crosses {original} tokens anew:

  ```console
  $ vllm serve path/to/this/directory --max-model-len {target}
  ```

  Without it, short requests get the short factors from a second engine, run with `max_model_len={original}`.

`factors.json` holds the factors and where they come from.
"""

_VALIDATION = """\
Needle retrieval at {target} tokens on held-out documents{when}:

| factors | documents | NLL, nats per answer token | exact match |
|---|---|---|---|
{rows}

"""

MERGE_SECTION = """
## Merge

This directory holds an adapter (LoRA), which is no model by itself: the RoPE that it was trained with is in
`factors.json`. `ropewalk merge ADAPTER --output DIRECTORY` writes the whole model.
"""


def model_card(source: ModelSource, file: FactorFile, settings: FinetuneSettings, result: FinetuneResult) -> str:
    """Markdown that says what the checkpoint is, how it was made and how it must be used."""
    return _CARD.format(
        name=_display_name(source),
        context=original_context(_display_name(source), file),
        target=file.target_length,
        original=file.original_max_position_embeddings,
        found=f"search `{file.search.id}`, trial {file.search.trial}" if file.search else "not from a search",
        version=ROPEWALK_VERSION,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        optimizer=OPTIMIZERS[settings.optimizer].title,
        warmup=settings.warmup_steps,
        rows=_rows(file, settings),
        trained=f"LoRA adapters of rank {settings.lora_rank}" if settings.lora_rank else "all weights",
        tokens=result.tokens,
        corpus=settings.corpus or "built-in (the Python reference)",
        losses=_losses(result),
        attention_factor=file.attention_factor,
        short_note="" if file.attention_factor == 1 else ", with the attention factor, as it was trained",
        seed=settings.seed,
        validation=validation_table(file, when=", **before** this training"),
    )


def original_context(name: str, file: FactorFile) -> str:
    """What the model read before: a clause about L, which may have been given below what it was published for."""
    original, served = file.original_max_position_embeddings, file.model.served_length
    if served is not None and original < served:
        return f"{name} was published for {served} tokens, and is taken here for a model of {original}"
    return f"{name} was trained on windows of {original} tokens"


def _display_name(source: ModelSource) -> str:
    """A hub id or an alias as it is; of a directory only the last part, for cards travel."""
    return source.path.name if Path(source.name).is_absolute() else source.name


def _rows(file: FactorFile, settings: FinetuneSettings) -> str:
    original, target = file.original_max_position_embeddings, file.target_length
    about: dict[Kind, str] = {
        "long": "long factors | {rows} documents of {tokens} tokens",
        "middle": "long factors | {rows} rows of {tokens} tokens, packed from documents of more than {original}",
        "short": "original RoPE | {rows} rows of {tokens} tokens, packed from documents of at most {original}",
        "skipped": "long factors | {rows} rows of {tokens} tokens, whose positions jump and reach up to {reach}",
    }
    return "\n".join(
        f"| per {_steps(kind, settings)}, "
        + about[kind].format(
            rows=settings.rows_of(kind),
            tokens=row_tokens(settings, kind, original_length=switch_length(file), target_length=target),
            original=original,
            reach=settings.skipped_reach or target,
        )
        + " |"
        for kind in KINDS
        if settings.rows_of(kind)
    )


def _steps(kind: Kind, settings: FinetuneSettings) -> str:
    """The steps that have rows of this kind."""
    every = settings.long_every
    if every == 1 or kind not in ("long", "skipped"):
        return "step"
    return f"step, in one of {every}" if kind == "long" else f"step, in {every - 1} of {every}"


def _losses(result: FinetuneResult) -> str:
    rows = (
        ("long", result.initial_loss_long, result.final_loss_long),
        ("middle", result.initial_loss_middle, result.final_loss_middle),
        ("short", result.initial_loss_short, result.final_loss_short),
        ("skipped", result.initial_loss_skipped, result.final_loss_skipped),
    )
    return "\n".join(f"| {kind} | {_loss(initial)} | {_loss(final)} |" for kind, initial, final in rows)


def _loss(value: float | None) -> str:
    return "not trained on" if value is None else f"{value:.3f}"


def validation_table(file: FactorFile, *, when: str = "") -> str:
    """On held-out documents, with its heading; nothing for factors that were not validated."""
    found = file.validation
    if found is None:
        return ""
    rows = [f"| these factors | {found.documents} | {found.nll:.4f} | {found.exact_match:.3f} |"]
    rows += [
        f"| {result.name} | {result.documents or found.documents} | {result.nll:.4f} | {result.exact_match:.3f} |"
        for result in file.baselines
    ]
    if not file.baselines:
        rows.append(f"| {found.best_baseline} | {found.documents} | {found.best_baseline_nll:.4f} | |")
    return _VALIDATION.format(target=file.target_length, when=when, rows="\n".join(rows))
