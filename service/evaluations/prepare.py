"""From an evaluation's spec to everything that its run needs; what the spec got wrong is refused here."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evaluation.documents.corpus import default_corpus
from evaluation.errors import CorpusNotFound
from evaluation.models.fitting import check_model, resolve_for
from evaluation.models.source import locate_model
from evaluation.models.user_path import is_directory, is_file, user_path
from finetune.output.output_files import FACTORS_NAME, is_adapter
from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.reports import FinetuneReport
from service.artifacts.copies import StoredModels
from service.errors import FactorsNotReady, FileMissing, InvalidSpec
from service.evaluations.contenders import Checkpoint, contenders
from service.evaluations.measure import Measure, PreparedEvaluation
from service.evaluations.measures import MEASURES
from service.finetunes.prepare import factor_file_of
from service.searches.model import PreparedModel, prepare_model
from service.specs.evaluation import EvaluationSpec
from storage.jobs.store import JobStore
from workers.factory import check_generator, check_model_fits, check_scorer


def prepare_evaluation(
    spec: EvaluationSpec, jobs: JobStore, *, stored: StoredModels | None = None, quickly: bool = False
) -> PreparedEvaluation:
    """Resolve the model, the factors and the checkpoint; build the documents, and of RULER the shortest prompts.
    `quickly`, before the job exists: none of a long corpus that holds enough text by far, and with the corpus in the
    spec that is meant where none is given. Of a checkpoint in `stored` the small files are fetched;
    workers fetch the rest.

    Raises:
        JobNotFound, FactorsNotReady: a job that the spec names is unknown, or not finished.
        InvalidSpec: a field breaks a rule.
        WorkersError: what the spec asks for cannot run here.
        FilesUnreachable: the store of the checkpoint is away.
    """
    trained = _checkpoint(spec, jobs, stored)
    found = _factors(spec, jobs)
    file = found or (trained.file if trained is not None else None)
    name = spec.model or (file.model.reference if file is not None else "pocket")
    target = spec.target_length or (file.target_length if file is not None else None)
    if target is None:
        raise InvalidSpec("target_length must be given when no factors say it", pointer="/target_length")
    _check_files(spec)
    asked = tuple(measure for measure in MEASURES.values() if measure.is_asked(spec))
    _check_machine(spec, asked)
    if quickly and spec.corpus is None:
        spec = spec.model_copy(update={"corpus": default_corpus(max((target, *(spec.lengths or ()))))})
    model = _model(name, spec.corpus, target, file)
    _check_fits(model, found, trained)
    prepared = PreparedEvaluation(
        spec=spec,
        model=model,
        target_length=target,
        lengths=tuple(sorted(set(spec.lengths or (model.rope.original_max_position_embeddings, target)))),
        contenders=tuple(
            contenders(
                model.rope,
                model.worker_name,
                target,
                baselined=spec.baselines,
                compared=any(measure.is_served for measure in asked),
                found=file,
                trained=trained,
            )
        ),
        works={},
        files={} if trained is None or trained.files is None else {str(trained.path): trained.files},
    )
    works = {measure.name: measure.prepare(prepared) for measure in asked}
    _check_memory(prepared)
    if not quickly or model.is_quick or not model.surely_holds(max(prepared.lengths)):
        for work in works.values():
            work.check()
    return replace(prepared, works=works)


def _model(name: str, corpus: str | None, target_length: int, file: FactorFile | None) -> PreparedModel:
    """The model, of the original length that the factors were found for."""
    if file is None:
        return prepare_model(name, corpus=corpus, target_length=target_length)
    resolve_for(file, name)
    original_length = file.original_max_position_embeddings
    return prepare_model(name, corpus=corpus, original_length=original_length, target_length=target_length)


def _check_fits(model: PreparedModel, found: FactorFile | None, trained: Checkpoint | None) -> None:
    if found is not None:
        check_model(model.source, found)
    if trained is not None:
        check_model(model.source, trained.file)
        check_model(locate_model(str(trained.path), rope=trained.file.rope), trained.file)


def _check_files(spec: EvaluationSpec) -> None:
    for field, data in spec.ruler_files.items():
        if not is_file(user_path(data)):
            raise CorpusNotFound(f"a question answering file must exist, but got {field}={data!r}", pointer=f"/{field}")


def _check_machine(spec: EvaluationSpec, asked: Sequence[Measure]) -> None:
    check_scorer(spec.scorer.backend, tensor_parallel=spec.scorer.tensor_parallel, dtype=spec.scorer.dtype)
    for measure in asked:
        if measure.is_served:
            check_generator(spec.scorer.backend, tensor_parallel=spec.scorer.tensor_parallel)
        measure.check_machine(spec)


def _check_memory(prepared: PreparedEvaluation) -> None:
    for opened in prepared.settings().values():
        if opened.files is not None:
            continue  # weights are not here yet: whoever opens it looks
        source = locate_model(opened.model, rope=prepared.model.rope)
        check_model_fits(source.path, opened)


def _checkpoint(spec: EvaluationSpec, jobs: JobStore, stored: StoredModels | None) -> Checkpoint | None:
    if spec.checkpoint is not None and "://" in spec.checkpoint:
        raise InvalidSpec(
            f"checkpoint must be a directory of the server's machines, but got {spec.checkpoint!r}: a job's checkpoint "
            "is named by finetune_id, wherever it is stored",
            pointer="/checkpoint",
        )
    if spec.checkpoint is not None:
        return _checkpoint_in(user_path(spec.checkpoint))
    if spec.finetune_id is None:
        return None
    job = jobs.get(spec.finetune_id)
    if job.kind != "finetune":
        raise InvalidSpec(
            f"finetune_id must name a fine-tuning job, but {job.id} is a {job.kind}", pointer="/finetune_id"
        )
    if job.result_json is None:
        raise FactorsNotReady(f"fine-tuning job {job.id} has no checkpoint: its state is {job.state}")
    trained = FinetuneReport.from_json(job.result_json)
    path = Path(trained.checkpoint)
    if is_directory(path):
        _check_whole(path, of=job.id, pointer="/finetune_id")
        return Checkpoint(path=path, file=trained.factors)
    model = None if stored is None else stored.of(job.id)
    try:
        if model is not None:
            model.fetch(weights=False)
    except FileMissing:
        model = None
    if model is None:
        raise InvalidSpec(
            f"finetune_id must name a job whose checkpoint is still there, but that of {job.id}, {trained.checkpoint}, "
            "is not: files of jobs expire where the server's operator keeps them for a while only",
            pointer="/finetune_id",
        )
    _check_whole(model.path, of=job.id, pointer="/finetune_id")
    return Checkpoint(path=model.path, file=trained.factors, files=model)


def _checkpoint_in(path: Path) -> Checkpoint:
    _check_whole(path, of=str(path), pointer="/checkpoint")
    names = ("config.json", FACTORS_NAME)
    if not all(is_file(path / name) for name in names):
        raise InvalidSpec(
            f"checkpoint must be a directory that holds {' and '.join(names)}, but got {str(path)!r}",
            pointer="/checkpoint",
        )
    try:
        text = (path / FACTORS_NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpec(
            f"checkpoint must hold a readable {FACTORS_NAME}, but got {str(path)!r}: {error}", pointer="/checkpoint"
        ) from error
    return Checkpoint(path=path.resolve(), file=FactorFile.from_json(text))


def _check_whole(path: Path, *, of: str, pointer: str) -> None:
    """An adapter is no model: whoever loads it over its base model runs it without the RoPE of its training."""
    if is_adapter(path):
        raise InvalidSpec(
            f"{pointer.removeprefix('/')} must have a whole model, but {of} is an adapter: run "
            f"`ropewalk merge {path} --output DIRECTORY` first, then evaluate with checkpoint=DIRECTORY",
            pointer=pointer,
        )


def _factors(spec: EvaluationSpec, jobs: JobStore) -> FactorFile | None:
    if spec.factors is not None:
        return spec.factors.read()
    return None if spec.search_id is None else factor_file_of(jobs, spec.search_id)
