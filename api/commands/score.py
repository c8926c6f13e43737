"""The score of given factors, without a service."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from api.commands import common
from api.commands.offline import (
    CorpusOption,
    Documents,
    ModelOption,
    Needles,
    OriginalLength,
    Seed,
    SkipGaps,
    SkipPlaces,
    SkipTokens,
    SplitOption,
    build_documents,
    skipping_of,
)
from api.console import err, note, print_json, print_table
from evaluation.models.source import ModelSource, resolve_model
from evaluation.models.user_path import is_file
from evaluation.models.warnings import model_warnings
from evaluation.models.windows import check_reach
from ropewalk.client.errors import BadInput
from ropewalk.errors import FactorsDoNotFit
from ropewalk.factors.factor_file import FactorFile
from ropewalk.rope.scaling import Scaling
from search_space.candidates.baselines import BASELINE_NAMES, baseline

if TYPE_CHECKING:
    from evaluation.documents.needle import NeedleDocument
    from evaluation.scores.score import DocumentScore, ScoreSummary
    from workers.base import Scorer

DOCUMENTS_PER_CALL = 16  # scored between two steps of the progress bar


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("score")(score)


def score(
    model: ModelOption,
    factors: Annotated[str, typer.Option(metavar="FILE|BASELINE", help="A factor file, - for stdin, or a baseline.")],
    target_length: common.TargetLength = None,
    original_length: OriginalLength = None,
    documents: Documents = 40,
    seed: Seed = 0,
    attention_factor: Annotated[
        float | None, typer.Option(help="Default: the factor file's; 1 for a baseline.")
    ] = None,
    other_model: Annotated[
        bool, typer.Option("--other-model", help="Score the factors even if they were found for another model.")
    ] = False,
    needles: Needles = 1,
    corpus: CorpusOption = None,
    split: SplitOption = "validation",
    skip_tokens: SkipTokens = None,
    skip_gaps: SkipGaps = None,
    skip_places: SkipPlaces = None,
    backend: Annotated[str, typer.Option(help=common.BACKEND_HELP)] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    as_json: common.AsJson = False,
) -> None:
    """Score given factors on needle documents, without a service. NLL is in nats per answer token."""
    from evaluation.documents.overlap import measure_overlap, overlap_warning
    from evaluation.scores.score import summarise
    from workers.factory import check_places_positions

    common.finite("--attention-factor", attention_factor)
    if attention_factor is not None and attention_factor <= 0:
        raise BadInput(f"--attention-factor must be positive, but got {attention_factor}")
    given = _given(model, factors, target_length, original_length, other_model=other_model)
    if attention_factor is not None:
        scaling = dataclasses.replace(given.scaling, attention_factor=attention_factor)
        given = dataclasses.replace(given, scaling=scaling)
    source, target_length = given.source, given.target_length
    skipping = skipping_of(source, skip_tokens, skip_gaps, skip_places)
    if skipping is not None:
        check_places_positions(backend)
    built = build_documents(source, target_length, documents, seed, needles, corpus, split, skipping)
    check_reach(source, target_length)
    overlap = measure_overlap([document.token_ids for document in built])
    shared = overlap_warning(overlap, "documents")
    warnings = (*model_warnings(source, target_length), *(() if shared is None else (shared,)))
    with _scorer(source, target_length, backend, dtype) as scorer:
        for warning in warnings:  # what is refused is told alone
            note(warning)
        scores = _score_all(scorer, given, built, quiet=as_json)
        info = scorer.info
    if not as_json:
        _show(given, summarise(scores))
        return
    how: dict[str, object] = {"split": split, "seed": seed}
    if skipping is not None:
        how["skipped"] = dataclasses.asdict(skipping)
    more: dict[str, object] = {"overlap": {"share": overlap.share, "effective_documents": overlap.effective}}
    if warnings:
        more["warnings"] = list(warnings)
    print_json(_result(given, how, scores, more | {"scorer": dataclasses.asdict(info)}))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Given:
    """What is scored: `name` is the file or the baseline, `source` the model that it was checked against."""

    name: str
    source: ModelSource
    target_length: int
    scaling: Scaling


def _given(
    model: str, factors: str, target_length: int | None, original_length: int | None, *, other_model: bool
) -> _Given:
    """A baseline's name is that baseline wherever the command runs; a file of that name is written ./name."""
    from evaluation.documents.factory import check_lengths

    if factors in BASELINE_NAMES:
        if target_length is None:
            raise BadInput(f"--target-length must be given for a baseline, but got --factors {factors} alone")
        source = resolve_model(common.local_path(model), original_length=original_length)
        check_lengths(source.rope.original_max_position_embeddings, target_length)
        scaling = baseline(factors, source.rope, target_length).scaling
        return _Given(name=factors, source=source, target_length=target_length, scaling=scaling)
    if factors != "-" and not is_file(Path(factors)):
        raise BadInput(f"--factors must be a file or one of {', '.join(BASELINE_NAMES)}, but got {factors!r}")
    file = common.read_factor_file(factors)
    if original_length not in (None, file.original_max_position_embeddings):
        raise BadInput(
            "--original-length must be the factor file's, "
            f"{file.original_max_position_embeddings}, or left out, but got {original_length}"
        )
    source = _model_for(file, model, other_model=other_model)
    target_length = target_length or file.target_length
    check_lengths(source.rope.original_max_position_embeddings, target_length)
    if target_length != file.target_length:
        note(f"the factors are for target_length={file.target_length}, but are scored at {target_length} tokens")
    return _Given(name=factors, source=source, target_length=target_length, scaling=file.scaling)


def _model_for(file: FactorFile, model: str, *, other_model: bool) -> ModelSource:
    """The model, or a checkpoint of it that was fine-tuned with the factors."""
    from evaluation.models.fitting import check_model, resolve_for

    name = common.local_path(model)
    try:
        source = resolve_for(file, name)
        check_model(source, file)
    except FactorsDoNotFit as error:
        if not other_model:
            raise FactorsDoNotFit(f"{error}; --other-model scores them as they are") from error
        note(str(error))
        source = resolve_model(name)
        file.scaling.check_fits(source.rope.num_pairs)
        return source
    # Also of a checkpoint, whose own has the factors in it, and which serves the target length because of them.
    same = source.rope.original_max_position_embeddings == file.original_max_position_embeddings
    served = source.served_length if same else file.model.served_length
    return dataclasses.replace(source, rope=file.rope, served_length=served)


def _result(
    given: _Given, how: dict[str, object], scores: "Sequence[DocumentScore]", more: dict[str, object]
) -> dict[str, object]:
    from evaluation.scores.score import summarise

    summary = summarise(scores)
    return {
        "model": given.source.name,
        "revision": given.source.revision,
        "factors": given.name,
        "target_length": given.target_length,
        "attention_factor": given.scaling.attention_factor,
        **how,
        "nll": summary.nll,
        "nll_standard_error": summary.nll_standard_error,
        "perplexity": summary.perplexity,
        "exact_match": summary.exact_match,
        "documents": summary.documents,
        "tokens": summary.tokens,
        **more,
        "document_scores": [
            {"id": one.document_id, "nats": one.nats, "tokens": one.tokens, "exact": one.exact} for one in scores
        ],
    }


def _show(given: _Given, summary: "ScoreSummary") -> None:
    error = summary.nll_standard_error  # None for a single document
    table = Table("factors", "attention factor", "NLL", "perplexity", "exact match", "documents")
    table.add_row(
        given.name,
        f"{given.scaling.attention_factor:.4g}",
        f"{summary.nll:.4f}" + ("" if error is None else f" +- {error:.4f}"),
        f"{summary.perplexity:.4f}",
        f"{summary.exact_match:.1%}",
        str(summary.documents),
    )
    print_table(table)


@contextmanager
def _scorer(source: ModelSource, target_length: int, backend: str, dtype: str) -> "Iterator[Scorer]":
    from workers.base import ScorerSettings
    from workers.factory import make_scorer

    settings = ScorerSettings(
        model=source.reference,
        target_length=target_length,
        original_length=source.rope.original_max_position_embeddings,
        rope=source.rope,
        backend=backend,
        dtype=dtype,  # type: ignore[arg-type]  # checked by ScorerSettings
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
            scores += scorer.score(given.scaling, batch)
            bar.advance(task, len(batch))
    return tuple(scores)
