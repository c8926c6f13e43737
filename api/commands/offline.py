"""What needs no service and no forward pass: analytic factors, and needle documents."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from api.commands import common
from api.console import note, print_json, print_line, print_table
from evaluation.models.hub import has_weights
from evaluation.models.source import ModelSource, model_sha256, resolve_model
from evaluation.models.warnings import model_warnings
from ropewalk.client.errors import BadInput
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.rope.critical_pair import ten_period_critical_pair, theoretical_critical_pair
from ropewalk.rope.scaling import Scaling
from ropewalk.version import ROPEWALK_VERSION
from search_space.candidates.baselines import BASELINE_NAMES, baseline, own_attention_factor
from search_space.candidates.candidate import Candidate

if TYPE_CHECKING:
    from evaluation.documents.needle import NeedleDocument, Split
    from evaluation.documents.skipping import Skipping

DOCUMENTS_PER_CALL = 16  # scored between two steps of the progress bar

ModelOption = Annotated[str, typer.Option(help="pocket, a directory, or a hub id: org/name, org/name@REVISION.")]
TargetLength = Annotated[int, typer.Option(metavar="TOKENS", parser=common.length, help="L', as 32k or 32768.")]
OriginalLength = common.OriginalLength
Documents = Annotated[int, typer.Option(min=1, help="How many.")]
Seed = Annotated[int, typer.Option(min=0, help="All randomness is derived from it.")]
Needles = Annotated[int, typer.Option(min=1, help="Needles per document.")]
CorpusOption = Annotated[str | None, typer.Option(help="Default: builtin:pydoc; past 8192 tokens builtin:stdlib.")]
SkipTokens = Annotated[
    int | None, typer.Option(help="Position-skipped documents of so many tokens; default: the original length.")
]
SkipGaps = Annotated[int | None, typer.Option(help="Their jumps; 2 where another --skip option is given alone.")]
SkipPlaces = Annotated[str | None, typer.Option(help="Where they jump: haystack (the default), anywhere or tail.")]
SplitOption = Annotated[str, typer.Option(help="search, validation or train: they share no text and no keys.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("baselines")(show_baselines)
    app.command("needles")(needles)


def show_baselines(
    model: ModelOption,
    target_length: TargetLength,
    original_length: OriginalLength = None,
    critical_pair: Annotated[int | None, typer.Option(help="Default: the theoretical one.")] = None,
    name: Annotated[str | None, typer.Option(help=f"Only this one: {', '.join(BASELINE_NAMES)}.")] = None,
    attention_factor: Annotated[
        float | None, typer.Option(help="For -o: what the file says; default: 1, whatever the method's paper has.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="Write --name as a factor file; - is standard output.")
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """Analytic factors: no search, no weights needed. With --name and -o, as a factor file for the command factors."""
    names = BASELINE_NAMES if name is None else (name,)
    if output is None and attention_factor is not None:
        raise BadInput("--attention-factor is for the factor file that --name NAME -o FILE writes, but -o is not given")
    source = resolve_model(common.local_path(model), original_length=original_length, weights=False)
    candidates = [baseline(one, source.rope, target_length, critical_pair=critical_pair) for one in names]
    for warning in model_warnings(source, target_length):
        note(warning)
    if output is not None:
        if name is None:
            raise BadInput("-o writes one baseline as a factor file, so --name must be given")
        file = _as_file(source, candidates[0], target_length, _attention_factor(attention_factor))
        _write_file(file, output, as_json=as_json)
        if attention_factor is None:
            _hint(name, source, target_length)
        return
    rows = {
        name: {
            "long_factor": list(candidate.scaling.factors.values),
            "critical_pair": candidate.critical_pair,
            "attention_factor": candidate.scaling.attention_factor,
            "own_attention_factor": own_attention_factor(name, source.rope, target_length),
        }
        for name, candidate in zip(names, candidates, strict=True)
    }
    if as_json:
        print_json({**_about(source, target_length), "baselines": rows})
        return
    table = Table("pair", *names, title=f"long_factor of {source.name} at {target_length} tokens")
    for pair in range(source.rope.num_pairs):
        table.add_row(str(pair), *(f"{candidate.scaling.factors.values[pair]:.4g}" for candidate in candidates))
    print_table(table)


def _attention_factor(given: float | None) -> float:
    common.finite("--attention-factor", given)
    if given is None:
        return 1.0
    if given <= 0:
        raise BadInput(f"--attention-factor must be positive, but got {given}")
    return given


def _as_file(source: ModelSource, candidate: Candidate, target_length: int, attention_factor: float) -> FactorFile:
    sha256 = model_sha256(source) if has_weights(source.path) else None
    return FactorFile.of(
        source.rope,
        Scaling(candidate.scaling.factors, attention_factor),
        model=ModelIdentity.of(
            source.rope,
            name=source.name,
            revision=source.revision,
            sha256=sha256,
            served_length=source.served_length,
        ),
        target_length=target_length,
        critical_pair=candidate.critical_pair,
        ropewalk_version=ROPEWALK_VERSION,
    )


def _write_file(file: FactorFile, output: str, *, as_json: bool) -> None:
    if output == "-":
        sys.stdout.write(file.to_json())
        return
    common.write_text(Path(output), file.to_json())
    print_json({"path": output}) if as_json else print_line(output)


def _hint(name: str, source: ModelSource, target_length: int) -> None:
    own = own_attention_factor(name, source.rope, target_length)
    if own != 1.0:
        note(f"the paper of {name} pairs these factors with an attention factor: --attention-factor {own:.6g}")


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
    original_length: OriginalLength = None,
    documents: Documents = 10,
    seed: Seed = 0,
    needles: Needles = 1,
    corpus: CorpusOption = None,
    split: SplitOption = "validation",
    skip_tokens: SkipTokens = None,
    skip_gaps: SkipGaps = None,
    skip_places: SkipPlaces = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: standard output.")] = None,
    as_json: common.AsJson = False,
) -> None:
    """Write needle documents, a JSON object a line: id, text, token_ids, answer_spans [[start, end)], depth; of skipped
    ones also jumps [[token, positions left out before it]]."""
    source = resolve_model(common.local_path(model), original_length=original_length, weights=False)
    for warning in model_warnings(source, target_length):
        note(warning)
    skipping = skipping_of(source, skip_tokens, skip_gaps, skip_places)
    built = build_documents(source, target_length, documents, seed, needles, corpus, split, skipping)
    lines = "".join(
        json.dumps(
            {
                "id": document.id,
                "text": document.text,
                "token_ids": document.token_ids,
                "answer_spans": document.answer_spans,
                "depth": document.depth,
                **({"jumps": document.jumps} if document.jumps else {}),
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


def skipping_of(source: ModelSource, tokens: int | None, gaps: int | None, places: str | None) -> "Skipping | None":
    """How documents skip, as the --skip options have it; None without any. Raises InvalidDocumentRequest."""
    from evaluation.documents.skipping import Skipping

    if tokens is None and gaps is None and places is None:
        return None
    given = {"gaps": gaps, "places": places}
    return Skipping(
        tokens=source.rope.original_max_position_embeddings if tokens is None else tokens,
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]  # it checks
    )


def build_documents(
    source: ModelSource,
    target_length: int,
    count: int,
    seed: int,
    needles: int,
    corpus: str | None,
    split: str,
    skipping: "Skipping | None" = None,
) -> "tuple[NeedleDocument, ...]":
    """Documents that reach over `target_length` tokens. Raises BadInput for a split that does not exist."""
    from evaluation.documents.corpus import default_corpus, load_corpus
    from evaluation.documents.factory import DocumentFactory, DocumentRequest
    from evaluation.models.source import load_tokenizer

    request = DocumentRequest(
        target_length=target_length, count=count, seed=seed, split=_split(split), needles=needles, skipping=skipping
    )
    return DocumentFactory(load_tokenizer(source), load_corpus(corpus or default_corpus(target_length))).build(request)


def _split(text: str) -> "Split":
    from evaluation.documents.needle import SPLITS

    for split in SPLITS:
        if split == text:
            return split
    raise BadInput(f"--split must be one of {', '.join(SPLITS)}, but got {text!r}")
