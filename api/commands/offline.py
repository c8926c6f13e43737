"""What needs no service and no weights: analytic factors, and needle documents."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from api.commands import common
from api.console import note, out, print_json, print_line
from api.errors import BadInput
from evaluation.models.source import ModelSource, resolve_model
from evaluation.models.windows import window_warnings
from search_space.candidates.baselines import BASELINE_NAMES, baselines, own_attention_factor
from search_space.rope.critical_pair import ten_period_critical_pair, theoretical_critical_pair

if TYPE_CHECKING:
    from evaluation.documents.needle import NeedleDocument, Split

DOCUMENTS_PER_CALL = 16  # scored between two steps of the progress bar

ModelOption = Annotated[str, typer.Option(help="pocket, a directory, or a hub id.")]
TargetLength = Annotated[int, typer.Option(help="Tokens.")]
Documents = Annotated[int, typer.Option(min=1, help="How many.")]
Seed = Annotated[int, typer.Option(min=0, help="All randomness is derived from it.")]
Needles = Annotated[int, typer.Option(min=1, help="Needles per document.")]
CorpusOption = Annotated[str | None, typer.Option(help="Default: the Python reference.")]
SplitOption = Annotated[str, typer.Option(help="search, validation or train: they share no text and no keys.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("baselines")(show_baselines)
    app.command("needles")(needles)


def show_baselines(
    model: ModelOption,
    target_length: TargetLength,
    critical_pair: Annotated[int | None, typer.Option(help="Default: the theoretical one.")] = None,
    as_json: common.AsJson = False,
) -> None:
    """Analytic factors: no search, no weights needed."""
    source = resolve_model(common.local_path(model), weights=False)
    for warning in window_warnings(source):
        note(warning)
    candidates = baselines(source.rope, target_length, critical_pair=critical_pair)
    rows = {
        name: {
            "long_factor": list(candidate.scaling.factors.values),
            "critical_pair": candidate.critical_pair,
            "attention_factor": candidate.scaling.attention_factor,
            "own_attention_factor": own_attention_factor(name, source.rope, target_length),
        }
        for name, candidate in zip(BASELINE_NAMES, candidates, strict=True)
    }
    if as_json:
        print_json({**_about(source, target_length), "baselines": rows})
        return
    names = list(rows)
    table = Table("pair", *names, title=f"long_factor of {source.name} at {target_length} tokens")
    for pair in range(source.rope.num_pairs):
        table.add_row(str(pair), *(f"{candidate.scaling.factors.values[pair]:.4g}" for candidate in candidates))
    out().print(table)


def _about(source: ModelSource, target_length: int) -> dict[str, object]:
    rope = source.rope
    return {
        "model": source.name,
        "rope_theta": rope.rope_theta,
        "rotary_dim": rope.rotary_dim,
        "num_pairs": rope.num_pairs,
        "original_max_position_embeddings": rope.original_max_position_embeddings,
        "target_length": target_length,
        "theoretical_critical_pair": theoretical_critical_pair(rope),
        "ten_period_critical_pair": ten_period_critical_pair(rope),
    }


def needles(
    model: ModelOption,
    target_length: TargetLength,
    documents: Documents = 10,
    seed: Seed = 0,
    needles: Needles = 1,
    corpus: CorpusOption = None,
    split: SplitOption = "validation",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: standard output.")] = None,
    as_json: common.AsJson = False,
) -> None:
    """Write needle documents, a JSON object a line: id, text, token_ids, answer_spans [[start, end)], depth."""
    source = resolve_model(common.local_path(model), weights=False)
    built = build_documents(source, target_length, documents, seed, needles, corpus, split)
    lines = "".join(
        json.dumps(
            {
                "id": document.id,
                "text": document.text,
                "token_ids": document.token_ids,
                "answer_spans": document.answer_spans,
                "depth": document.depth,
            }
        )
        + "\n"
        for document in built
    )
    if output is None:
        sys.stdout.write(lines)
    else:
        common.write_text(output, lines)
        print_json({"path": str(output), "documents": len(built)}) if as_json else print_line(str(output))


def build_documents(
    source: ModelSource, target_length: int, count: int, seed: int, needles: int, corpus: str | None, split: str
) -> "tuple[NeedleDocument, ...]":
    """Documents of `target_length` tokens. Raises BadInput for a split that does not exist."""
    from evaluation.documents.corpus import load_corpus
    from evaluation.documents.factory import DocumentFactory, DocumentRequest
    from evaluation.models.source import load_tokenizer

    request = DocumentRequest(target_length=target_length, count=count, seed=seed, split=_split(split), needles=needles)
    return DocumentFactory(load_tokenizer(source), load_corpus(corpus)).build(request)


def _split(text: str) -> "Split":
    from evaluation.documents.needle import SPLITS

    for split in SPLITS:
        if split == text:
            return split
    raise BadInput(f"--split must be one of {', '.join(SPLITS)}, but got {text!r}")
