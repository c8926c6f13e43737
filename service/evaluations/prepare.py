"""From an evaluation's spec to everything that its run needs; what the spec got wrong is refused here."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.documents.needle import NeedleDocument
from evaluation.documents.windows import text_windows
from evaluation.models.fitting import check_model
from evaluation.models.scaled import find_model
from evaluation.models.user_path import is_file, user_path
from evaluation.ruler.factory import RulerFactory
from evaluation.ruler.task import RulerRequest
from finetune.output.output_files import FACTORS_NAME, is_adapter
from search_space.factors.factor_file import FactorFile
from service.errors import FactorsNotReady, InvalidSpec
from service.evaluations.contenders import BASE, FINETUNED, Checkpoint, Contender, contenders
from service.evaluations.work import ServedWork
from service.finetunes.prepare import factor_file_of
from service.reports import FinetuneReport
from service.searches.prepare import PreparedModel, prepare_model, scorer_settings
from service.specs.evaluation import EvaluationSpec
from storage.jobs.store import JobStore
from workers.base import ScorerSettings
from workers.factory import check_generator, check_model_fits, check_scorer
from workers.harness.run import HarnessRequest, check_harness

EVALUATION_SEED = 0x5EED  # mixed into the seed: documents that neither a search nor its validation has drawn


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedEvaluation:
    """An evaluation ready to run."""

    spec: EvaluationSpec
    model: PreparedModel
    target_length: int
    lengths: tuple[int, ...]
    contenders: tuple[Contender, ...]
    ruler: RulerFactory | None

    @property
    def original_length(self) -> int:
        """L, tokens."""
        return self.model.rope.original_max_position_embeddings

    @property
    def seed(self) -> int:
        """What everything here is drawn by."""
        return int(np.random.SeedSequence([self.spec.seed, EVALUATION_SEED]).generate_state(1)[0])

    def documents(self, length: int) -> tuple[NeedleDocument, ...]:
        """Held-out documents of `length` tokens."""
        return self.model.documents(
            split="validation",
            length=length,
            count=self.spec.documents,
            needles=self.spec.needles_per_document,
            seed=self.seed,
        )

    def served_work(self) -> ServedWork:
        """Prompts and texts; texts are also read at the original length, which retention is about."""
        lengths = sorted({self.original_length, *self.lengths})
        tokenizer, count = self.model.factory.tokenizer, self.spec.text_windows
        return ServedWork(
            tokenizer=tokenizer,
            ruler=self.ruler,
            tasks=self.spec.ruler_tasks,
            ruler_lengths=self.lengths if self.spec.ruler_tasks else (),
            prompts=self.spec.ruler_documents,
            seed=self.seed,
            windows=text_windows(tokenizer, self.model.corpus, lengths=lengths, count=count, seed=self.seed)
            if count
            else {},
        )

    def settings(self) -> dict[str, ScorerSettings]:
        """What workers open, by model."""
        longest = max(self.original_length, *self.lengths)
        names = dict.fromkeys(contender.model for contender in self.contenders)
        return {name: scorer_settings(self.spec.scorer, name, self.model.rope, longest) for name in names}

    def harness_requests(self) -> tuple[tuple[str, HarnessRequest], ...]:
        """(contender, what is asked of the harness): the model as it is, and the fine-tuned one."""
        models = {BASE: str(self.model.source.path)}
        models |= {one.name: one.model for one in self.contenders if one.name == FINETUNED}
        return tuple((name, self._harness_request(model)) for name, model in models.items() if self.spec.harness)

    def _harness_request(self, model: str) -> HarnessRequest:
        spec = self.spec
        return HarnessRequest(
            model=model,
            tasks=spec.harness,
            max_length=self.original_length,
            dtype=spec.scorer.dtype,
            path=_harness_path(spec),
            limit=spec.harness_limit,
            seed=spec.seed,
        )


def prepare_evaluation(spec: EvaluationSpec, jobs: JobStore) -> PreparedEvaluation:
    """Resolve the model, the factors and the checkpoint; build the documents, and of RULER the shortest prompts.

    Raises:
        JobNotFound, FactorsNotReady: a job that the spec names is unknown, or not finished.
        InvalidSpec: a field breaks a rule.
        WorkersError: what the spec asks for cannot run here.
    """
    trained = _checkpoint(spec, jobs)
    found = _factors(spec, jobs)
    file = found or (trained.file if trained is not None else None)
    name = spec.model or (file.model.name if file is not None else "pocket")
    target = spec.target_length or (file.target_length if file is not None else None)
    if target is None:
        raise InvalidSpec("target_length must be given when no factors say it", pointer="/target_length")
    _check_workers(spec)
    model = prepare_model(
        name,
        corpus=spec.corpus,
        original_length=file.original_max_position_embeddings if file is not None else None,
        target_length=target,
    )
    for given in (found, None if trained is None else trained.file):
        if given is not None:
            check_model(model.source, given)
    if trained is not None:
        check_model(find_model(str(trained.path)), trained.file)
    lengths = spec.lengths or (model.rope.original_max_position_embeddings, target)
    prepared = PreparedEvaluation(
        spec=spec,
        model=model,
        target_length=target,
        lengths=tuple(sorted(set(lengths))),
        contenders=tuple(contenders(spec, model, target, found=file, trained=trained)),
        ruler=_ruler(spec, model),
    )
    _check_memory(prepared)
    _check_documents(prepared)
    return prepared


def _check_workers(spec: EvaluationSpec) -> None:
    check_scorer(spec.scorer.backend, tensor_parallel=spec.scorer.tensor_parallel, dtype=spec.scorer.dtype)
    if spec.ruler_tasks or spec.text_windows:
        check_generator(spec.scorer.backend, tensor_parallel=spec.scorer.tensor_parallel)
    if spec.harness:
        check_harness(_harness_path(spec))


def _harness_path(spec: EvaluationSpec) -> str | None:
    return None if spec.harness_path is None else str(user_path(spec.harness_path))


def _check_memory(prepared: PreparedEvaluation) -> None:
    for opened in prepared.settings().values():
        source = find_model(opened.model, original_length=opened.original_length)
        check_model_fits(source.path, opened)


def _ruler(spec: EvaluationSpec, model: PreparedModel) -> RulerFactory | None:
    if not spec.ruler_tasks:
        return None
    files = {field: user_path(file) for field, file in spec.ruler_files.items()}
    return RulerFactory(model.factory.tokenizer, model.corpus, files=files)


def _check_documents(prepared: PreparedEvaluation) -> None:
    for length in prepared.lengths:
        prepared.documents(length)
    for task in prepared.spec.ruler_tasks:
        assert prepared.ruler is not None  # there are tasks
        # What fits the shortest length fits every one.
        request = RulerRequest(task=task, length=prepared.lengths[0], count=1, seed=prepared.seed)
        prepared.ruler.build(request)


def _checkpoint(spec: EvaluationSpec, jobs: JobStore) -> Checkpoint | None:
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
    _check_whole(path, of=job.id, pointer="/finetune_id")
    return Checkpoint(path=path, file=trained.factors)


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
