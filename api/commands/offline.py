"""What needs no service: analytic factors, needle documents, and the score of given factors."""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from api.commands import common
from api.console import err, out, print_json, print_line
from api.errors import BadInput
from evaluation.models.source import ModelSource, resolve_model
from evaluation.models.user_path import is_file
from search_space.candidates.baselines import BASELINE_NAMES, baseline, baselines, own_attention_factor
from search_space.factors.factor_file import FactorFile
from search_space.rope.critical_pair import ten_period_critical_pair, theoretical_critical_pair
from search_space.rope.rescale_factors import RescaleFactors

if TYPE_CHECKING:
    from evaluation.documents.needle import NeedleDocument, Split
    from evaluation.scores.score import DocumentScore
    from workers.base import Scorer

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
    app.command("score")(score)


def show_baselines(
    model: ModelOption,
    target_length: TargetLength,
    critical_pair: Annotated[int | None, typer.Option(help="Default: the theoretical one.")] = None,
    as_json: common.AsJson = False,
) -> None:
    """Analytic factors: no search, no weights needed."""
    source = resolve_model(common.local_path(model), weights=False)
    candidates = baselines(source.rope, target_length, critical_pair=critical_pair)
    rows = {
        name: {
            "long_factor": list(candidate.factors.values),
            "critical_pair": candidate.critical_pair,
            "attention_factor": candidate.attention_factor,
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
        table.add_row(str(pair), *(f"{candidate.factors.values[pair]:.4g}" for candidate in candidates))
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
    built = _documents(source, target_length, documents, seed, needles, corpus, split)
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


def _documents(
    source: ModelSource, target_length: int, count: int, seed: int, needles: int, corpus: str | None, split: str
) -> "tuple[NeedleDocument, ...]":
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


def score(
    model: ModelOption,
    factors: Annotated[str, typer.Option(metavar="FILE|BASELINE", help="A factor file, or a baseline's name.")],
    target_length: TargetLength,
    documents: Documents = 40,
    seed: Seed = 0,
    attention_factor: Annotated[
        float | None, typer.Option(help="Default: the factor file's; 1 for a baseline.")
    ] = None,
    needles: Needles = 1,
    corpus: CorpusOption = None,
    split: SplitOption = "validation",
    backend: Annotated[str, typer.Option(help="auto, transformers or vllm.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    as_json: common.AsJson = False,
) -> None:
    """Score given factors on needle documents, without a service. NLL is in nats per answer token."""
    from evaluation.documents.factory import check_lengths
    from evaluation.scores.score import summarise

    common.finite("--attention-factor", attention_factor)
    if attention_factor is not None and attention_factor <= 0:
        raise BadInput(f"--attention-factor must be positive, but got {attention_factor}")
    source = _scorable(model, factors)
    check_lengths(source.rope.original_max_position_embeddings, target_length)
    given = _factors(source, factors, target_length, attention_factor)
    built = _documents(source, target_length, documents, seed, needles, corpus, split)
    with _scorer(source, target_length, backend, dtype) as scorer:
        scores = _score_all(scorer, given, built, quiet=as_json)
        info = scorer.info
    summary = summarise(scores)
    result: dict[str, object] = {
        "model": source.name,
        "factors": given.name,
        "target_length": target_length,
        "attention_factor": given.attention_factor,
        "split": split,
        "seed": seed,
        "nll": summary.nll,
        "nll_standard_error": summary.nll_standard_error,
        "perplexity": summary.perplexity,
        "exact_match": summary.exact_match,
        "documents": summary.documents,
        "tokens": summary.tokens,
        "scorer": dataclasses.asdict(info),
        "document_scores": [
            {"id": one.document_id, "nats": one.nats, "tokens": one.tokens, "exact": one.exact} for one in scores
        ],
    }
    if as_json:
        print_json(result)
        return
    error = summary.nll_standard_error  # None for a single document
    table = Table("factors", "attention factor", "NLL", "perplexity", "exact match", "documents")
    table.add_row(
        given.name,
        f"{given.attention_factor:.4g}",
        f"{summary.nll:.4f}" + ("" if error is None else f" +- {error:.4f}"),
        f"{summary.perplexity:.4f}",
        f"{summary.exact_match:.1%}",
        str(summary.documents),
    )
    out().print(table)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Given:
    name: str
    factors: RescaleFactors
    attention_factor: float


def _scorable(model: str, factors: str) -> ModelSource:
    """The model; with a factor file also a checkpoint that was fine-tuned with it, whose own config is scaled."""
    if not is_file(Path(factors)):
        return resolve_model(common.local_path(model))
    from evaluation.models.scaled import find_model

    file = FactorFile.from_json(common.read_text(factors))
    return find_model(common.local_path(model), original_length=file.original_max_position_embeddings)


def _factors(source: ModelSource, text: str, target_length: int, attention_factor: float | None) -> _Given:
    if text in BASELINE_NAMES:
        candidate = baseline(text, source.rope, target_length)
        own, values, name = candidate.attention_factor, candidate.factors, text
    elif text != "-" and not is_file(Path(text)):
        raise BadInput(f"--factors must be a file or one of {', '.join(BASELINE_NAMES)}, but got {text!r}")
    else:
        file = FactorFile.from_json(common.read_text(text))
        own, values, name = file.attention_factor, file.long_factor, text
    values.check_fits(source.rope.num_pairs)
    return _Given(name=name, factors=values, attention_factor=own if attention_factor is None else attention_factor)


@contextmanager
def _scorer(source: ModelSource, target_length: int, backend: str, dtype: str) -> "Iterator[Scorer]":
    from workers.base import ScorerSettings
    from workers.factory import make_scorer

    settings = ScorerSettings(
        model=source.name,
        target_length=target_length,
        original_length=source.rope.original_max_position_embeddings,
        backend=backend,  # type: ignore[arg-type]  # checked by ScorerSettings
        dtype=dtype,  # type: ignore[arg-type]
    )
    scorer = make_scorer(settings)
    try:
        yield scorer
    finally:
        scorer.close()


def _score_all(
    scorer: "Scorer", given: _Given, documents: "Sequence[NeedleDocument]", *, quiet: bool
) -> "tuple[DocumentScore, ...]":
    from rich.progress import Progress

    scores: list[DocumentScore] = []
    with Progress(console=err(), disable=quiet, transient=True) as bar:
        task = bar.add_task("scoring", total=len(documents))
        for start in range(0, len(documents), DOCUMENTS_PER_CALL):
            batch = documents[start : start + DOCUMENTS_PER_CALL]
            scores += scorer.score(factors=given.factors, attention_factor=given.attention_factor, documents=batch)
            bar.advance(task, len(batch))
    return tuple(scores)
