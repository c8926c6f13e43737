"""A job's result to the Hugging Face Hub."""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.commands import common
from api.console import note, print_json, print_line
from evaluation.models.hub import HubName
from evaluation.models.user_path import is_directory
from finetune.output.output_files import is_adapter
from ropewalk.client.errors import ApiError, BadInput
from ropewalk.client.sync import Client
from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.evaluation import EvaluationReport
from ropewalk.wire.jobs import JobResource
from ropewalk.wire.reports import FinetuneReport, SearchReport

if TYPE_CHECKING:
    from api.publishing.base_model import BaseModel
    from api.publishing.contents import Content
    from api.publishing.uploading import Destination

_LOOKED_AT = 20
"""Evaluations that are looked through for one of the job, the newest first."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("push")(push)


def push(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="A search's id (srch_...), or a fine-tuning job's.")],
    to: Annotated[str, typer.Option("--to", metavar="ORG/NAME", help="The repository; it is made if there is none.")],
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Default: main; it is made if there is none.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    commit_message: Annotated[str | None, typer.Option("--commit-message", "-m", help="Of the one commit.")] = None,
    license: Annotated[
        str | None, typer.Option(help="As the Hub names it: apache-2.0, mit, ... Default: the base model's.")
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", help="The model on the Hub, for one that was read from a directory."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the files and the card, upload nothing.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """Push a search's factors, or a fine-tuning job's checkpoint, to the Hugging Face Hub, with a model card."""
    from api.publishing import uploading

    message = f"Ropewalk: {job_id}" if commit_message is None else commit_message
    destination = uploading.Destination.of(to, revision=revision, private=private, message=message)
    if base_model is not None and ((hub := HubName.of(base_model)) is None or "/" not in hub.repository):
        raise BadInput(f"--base-model must be org/name, or org/name@revision, but got {base_model!r}")
    with ExitStack() as stack:
        client = stack.enter_context(common.client())
        job = client.get(job_id)
        result = _result_of(job)
        results = _evaluated(client, job)
        if not dry_run:
            destination = uploading.check_ready(destination)
        directory = _checkpoint_of(client, job, result, stack)
        contents = _contents(result, directory, destination, base_model=base_model, license=license, results=results)
        if dry_run:
            _show(contents, destination, as_json=as_json)
            return
        if not sys.stderr.isatty():
            from huggingface_hub.utils.tqdm import disable_progress_bars

            disable_progress_bars()
        pushed = uploading.upload(contents, destination)
    if as_json:
        files = [one.path for one in contents]
        print_json({"repository": pushed.repository, "commit": pushed.commit, "url": pushed.url, "files": files})
    else:
        print_line(pushed.url)


def _result_of(job: JobResource) -> SearchReport | FinetuneReport:
    """Raises BadInput: a job of another kind, or without a result."""
    if isinstance(job.result, SearchReport | FinetuneReport):
        return job.result
    if job.kind == "evaluation":
        raise BadInput(f"push is for searches and fine-tuning jobs, but {job.id} is an evaluation")
    raise BadInput(f"push is for jobs that have a result, but {job.id} has none: its state is {job.state.value}")


def _checkpoint_of(
    client: Client, job: JobResource, result: SearchReport | FinetuneReport, stack: ExitStack
) -> Path | None:
    """The checkpoint's directory, or a copy that the server gives and that goes with `stack`; None: a search has none.

    Raises:
        BadInput: neither is to be had.
    """
    if isinstance(result, SearchReport):
        return None
    directory = Path(result.checkpoint)
    if is_directory(directory):
        return directory
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ropewalk-push-")))
    client.download(job.id, scratch)
    if not is_directory(scratch / "checkpoint"):
        raise BadInput(
            f"the server must have the checkpoint's files, but has none any more, and {result.checkpoint} is not here"
        )
    return scratch / "checkpoint"


def _contents(
    result: SearchReport | FinetuneReport,
    directory: Path | None,
    destination: "Destination",
    *,
    base_model: str | None,
    license: str | None,
    results: str,
) -> "list[Content]":
    from api.publishing import card, contents
    from api.publishing.base_model import BaseModel

    file: FactorFile = result.factors
    base = BaseModel.of(file.model, base_model)
    licensed = _license(base, license)
    if isinstance(result, SearchReport):
        files, about = contents.factor_contents(file, base)
        text = card.search_card(
            file,
            base=base,
            repository=destination.repository,
            statement=result.statement,
            results=results,
            files=about,
            license=licensed,
        )
        return [contents.Content("README.md", text), *files]
    assert directory is not None  # that of a fine-tuning

    def ours(written: str) -> str:
        return card.checkpoint_card(
            written,
            base=base,
            repository=destination.repository,
            results=results,
            license=licensed,
            is_adapter=is_adapter(directory),
        )

    return contents.checkpoint_contents(directory, base, ours)


def _license(base: "BaseModel", given: str | None) -> dict[str, str]:
    from api.publishing.uploading import license_of

    if not base.is_on_hub:
        note(f"the card names no base model, because {base.name} is no model of the Hub: give --base-model")
    if given is not None:
        return {"license": given}
    found = dict(license_of(HubName(base.name, base.revision))) if base.is_on_hub else {}
    if not found:
        note("the card names no license, because the base model's is not known: give --license")
    return found


def _evaluated(client: Client, job: JobResource) -> str:
    """The table of the newest evaluation of this job; nothing without one, or for keys that may not see it."""
    from api.publishing.card import results_table

    field = "search_id" if job.kind == "search" else "finetune_id"
    try:
        for summary in client.jobs("evaluation", state="succeeded", limit=_LOOKED_AT).items:
            evaluation = client.get(summary.id)
            if evaluation.spec.get(field) == job.id and isinstance(evaluation.result, EvaluationReport):
                return results_table(evaluation.result, job_id=evaluation.id)
    except ApiError:
        pass
    return ""


def _show(contents: "list[Content]", destination: "Destination", *, as_json: bool) -> None:
    files = [{"path": one.path, "bytes": one.size} for one in contents]
    card = next(str(one.source) for one in contents if one.path == "README.md")
    if as_json:
        print_json({"repository": destination.repository, "files": files, "card": card})
        return
    for one in contents:
        print_line(f"{one.path}  {one.size:,} bytes")
    print_line("")
    for line in card.splitlines():
        print_line(line)
