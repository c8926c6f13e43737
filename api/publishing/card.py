"""The README.md of a repository on the Hub: what it is of, results as a table, and how it is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import yaml

from api.publishing.base_model import BaseModel, without_paths
from finetune.output.model_card import original_context, validation_table
from ropewalk.factors.factor_file import FactorFile
from ropewalk.version import ROPEWALK_VERSION
from ropewalk.wire.evaluation import EvaluationReport

_TAGS = ("longrope", "long-context", "ropewalk")
_PLACE = "path/to/this/directory"  # in the cards that checkpoints are written with

_SEARCH = """
# RoPE rescale factors for {base}: {target} tokens

{context}. With these factors it reads {target}.
Found by Ropewalk {version}, {found}.

{statement}

{validation}{results}## How to use them

With vLLM, original RoPE up to {original} tokens and these factors past it (the plugin of `ropewalk[vllm]`):

```console
$ hf download {repository} --local-dir factors
$ ropewalk serve-model {reference} --factors factors/factors.json
```
{vllm}
With transformers, each forward pass choosing by its longest position (`pip install ropewalk`):

```python
import ropewalk
from huggingface_hub import hf_hub_download
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained({load})
factors = ropewalk.Factors.read(hf_hub_download("{repository}", "factors.json"))
factors.apply(model)
```

## Files

{files}
"""
_VLLM = """
Without the plugin vLLM takes one set of factors for all lengths, when it starts:

```console
$ vllm serve {load} --max-model-len {target} --hf-overrides "$(cat factors/vllm.json)"
```
"""


def search_card(
    file: FactorFile,
    *,
    base: BaseModel,
    repository: str,
    statement: str,
    results: str,
    files: Mapping[str, str],
    license: Mapping[str, str],
) -> str:
    """Of a search's factors. `files`: what each is; `results`: a table of an evaluation, or nothing."""
    revision = "" if base.revision is None else f' --revision "{base.revision}"'
    pinned = "" if base.revision is None else f', revision="{base.revision}"'
    vllm = _VLLM.format(load=base.name + revision, target=file.target_length) if "vllm.json" in files else ""
    body = _SEARCH.format(
        base=base.name,
        context=original_context(base.name, file),
        reference=base.reference,
        load=f'"{base.name}"{pinned}',
        repository=repository,
        original=file.original_max_position_embeddings,
        target=file.target_length,
        version=ROPEWALK_VERSION,
        found=f"search `{file.search.id}`, trial {file.search.trial}" if file.search else "not by a search",
        statement=statement,
        validation=validation_table(file),
        results=results,
        vllm=vllm,
        files="\n".join(f"* `{name}`: {what}" for name, what in files.items()),
    )
    return _front(base, license) + without_paths(body)


def checkpoint_card(
    card: str, *, base: BaseModel, repository: str, results: str, license: Mapping[str, str], is_adapter: bool
) -> str:
    """Of a fine-tuned checkpoint: `card` is the one that it was written with, which knows no repository yet."""
    _, _, body = card.removeprefix("---\n").partition("\n---\n") if card.startswith("---\n") else ("", "", card)
    body = without_paths(body.replace(_PLACE, repository))
    heading = "\n## How it switches"
    body = body.replace(heading, f"\n{results}{heading[1:]}", 1) if heading in body else body + "\n" + results
    return _front(base, license, library="peft" if is_adapter else "transformers", is_adapter=is_adapter) + body


def results_table(report: EvaluationReport, *, job_id: str) -> str:
    """Of an evaluation: needle documents and RULER by contender and length."""
    rulers = {(row.name, row.length): row.average for row in report.ruler}
    columns = ["contender", "tokens", "documents", "NLL, nats per answer token", "exact match"]
    rows: list[Iterable[object]] = [
        [row.name, row.length, row.documents, f"{row.nll:.4f}", f"{row.exact_match:.3f}"] for row in report.rows
    ]
    if rulers:
        columns.append("RULER, mean of tasks")
        rows = [
            [*row, f"{rulers[key]:.1f}" if (key := (known.name, known.length)) in rulers else ""]
            for row, known in zip(rows, report.rows, strict=True)
        ]
    lines = [columns, ["---"] * len(columns), *rows]
    table = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    return f"Needle retrieval by length, evaluation `{job_id}`:\n\n{table}\n\n"


def _front(
    base: BaseModel, license: Mapping[str, str], *, library: str | None = None, is_adapter: bool | None = None
) -> str:
    """The metadata that the Hub reads."""
    known: dict[str, object] = {}
    if base.is_on_hub:
        known["base_model"] = base.name
        if is_adapter is not None:
            known["base_model_relation"] = "adapter" if is_adapter else "finetune"
    known |= license
    if library is not None:
        known |= {"library_name": library, "pipeline_tag": "text-generation"}
    known["tags"] = list(_TAGS)
    return f"---\n{yaml.safe_dump(known, sort_keys=False)}---\n"
