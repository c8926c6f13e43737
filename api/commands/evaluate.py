"""Evaluations from the terminal."""

from pathlib import Path
from typing import Annotated, Any

import typer

from api.commands import common, live, spec_files
from api.commands.jobs import FactorsOption, SearchOption
from api.console import err
from evaluation.ruler.tasks import TASKS
from ropewalk.client.errors import BadInput
from ropewalk.client.sync import Client
from ropewalk.reading.lengths import tokens_of

CheckpointOption = Annotated[
    str | None, typer.Option(help="Also evaluate this checkpoint directory, as `merge` writes it.")
]
ModelOption = Annotated[
    str | None,
    typer.Option(help="Default: the one that the search, the job, the factors or the checkpoint name; else pocket."),
]
TasksOption = Annotated[
    str | None, typer.Option(help=f"RULER tasks by generation, comma-separated, or all: {', '.join(TASKS.own)}.")
]
ThresholdOption = Annotated[float | None, typer.Option(help="RULER average, %, that an effective length must reach.")]
BaselinesOption = Annotated[
    bool | None,
    typer.Option("--baselines/--no-baselines", help="Evaluate the analytic baselines too (the default)."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    spec_file: spec_files.SpecFile = None,
    search: SearchOption = None,
    factors: FactorsOption = None,
    finetune: Annotated[str | None, typer.Option("--finetune", help="Also evaluate this job's checkpoint.")] = None,
    checkpoint: CheckpointOption = None,
    model: ModelOption = None,
    target_length: common.TargetLength = None,
    lengths: Annotated[str | None, typer.Option(help="Tokens, comma-separated: 8k,32k.")] = None,
    documents: Annotated[int | None, typer.Option(help="Needle documents per length.")] = None,
    tasks: TasksOption = None,
    ruler_documents: Annotated[int | None, typer.Option(help="Prompts per RULER task and length.")] = None,
    threshold: ThresholdOption = None,
    squad: Annotated[str | None, typer.Option(help="SQuAD's dev-v2.0.json, for qa_1.")] = None,
    hotpotqa: Annotated[str | None, typer.Option(help="hotpot_dev_distractor_v1.json, for qa_2.")] = None,
    text_windows: Annotated[int | None, typer.Option(help="Plain texts per length: perplexity, accuracy.")] = None,
    harness: Annotated[str | None, typer.Option(help="lm-evaluation-harness tasks, comma-separated.")] = None,
    harness_path: Annotated[str | None, typer.Option(help="A directory with harness tasks of your own.")] = None,
    harness_limit: Annotated[int | None, typer.Option(help="Examples per harness task; default: all.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Where haystacks come from.")] = None,
    backend: Annotated[str | None, typer.Option(help=common.BACKEND_HELP)] = None,
    workers: Annotated[int | None, typer.Option(help="Workers to run in parallel.")] = None,
    seed: Annotated[int | None, typer.Option(help="All randomness is derived from it.")] = None,
    baselines: BaselinesOption = None,
    label: common.LabelOptions = None,
    idempotency_key: common.IdempotencyKey = None,
    priority: common.Priority = None,
    html: Annotated[Path | None, typer.Option(help="Wait, and write the report page to this file.")] = None,
    wait: common.Wait = False,
    as_json: common.AsJson = False,
) -> int:
    """Evaluate a model at several lengths with given factors and the baselines: needles, RULER, text, harness.

    Flags win over a spec file."""
    spec: dict[str, Any] = {} if spec_file is None else spec_files.read_object(spec_file)
    given = {
        "search_id": search,
        "factors": None if factors is None else common.factors_to_send(factors),
        "finetune_id": finetune,
        "checkpoint": common.server_path(checkpoint),
        "model": common.server_path(model),
        "target_length": target_length,
        "lengths": _lengths(lengths),
        "documents": documents,
        "tasks": _names(tasks),
        "ruler_documents": ruler_documents,
        "threshold": common.finite("--threshold", threshold),
        "squad": common.server_path(squad),
        "hotpotqa": common.server_path(hotpotqa),
        "text_windows": text_windows,
        "harness": _names(harness),
        "harness_path": common.server_path(harness_path),
        "harness_limit": harness_limit,
        "corpus": common.server_path(corpus),
        "scorer.backend": backend,
        "workers": workers,
        "seed": seed,
        "baselines": baselines,
    }
    common.put(spec, given)
    common.put_labels(spec, label)
    if html is not None:
        common.make_place(html)
    with common.client() as client:
        job = client.submit_evaluation(spec, idempotency_key=idempotency_key, priority=priority)
        code = live.after_submission(client, job, wait=wait or html is not None, as_json=as_json)
        return code if html is None else _write_report(client, job.id, html, code)


def _write_report(client: Client, job_id: str, html: Path, code: int) -> int:
    if code == 0:
        common.write_text(html, client.report(job_id))
        err().print(f"report written to {html}", soft_wrap=True)
    return code


def _lengths(text: str | None) -> list[int] | None:
    try:
        return None if text is None else [tokens_of(part) for part in text.split(",")]
    except ValueError as error:
        raise BadInput(f"--lengths: {error}") from None


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",")]
