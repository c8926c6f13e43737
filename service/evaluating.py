"""Needle retrieval at several lengths: no scaling, each baseline, given factors, a fine-tuned checkpoint."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.needle import NeedleDocument
from evaluation.score import DocumentScore, summarise
from search_space.baselines import baseline, baselines, own_attention_factor
from search_space.candidate import Candidate
from search_space.factor_file import FactorFile
from search_space.rescale_factors import RescaleFactors
from service.errors import FactorsNotReady, InvalidSpec
from service.handoff import factor_file_of
from service.prepare import PreparedModel, parse_factor_file, prepare_model, scorer_settings
from service.runtime import ProgressWriter, Runtime
from service.spec import EvaluationSpec
from storage.jobs import JobStore
from storage.records import JobState, Progress
from workers.base import ScoringTask
from workers.errors import ScoringFailed
from workers.factory import check_scorer

FOUND = "found factors"
FINETUNED = "fine-tuned"
EVALUATION_SEED = 0x5EED  # mixed into the seed: documents that neither a search nor its validation has drawn


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One row group of the report: a model and the RoPE that it runs with past its original length."""

    name: str
    model: str
    long_factor: RescaleFactors
    attention_factor: float

    def rope_at(self, length: int, original_length: int) -> tuple[RescaleFactors, float]:
        """(factors, attention factor) for inputs of `length` tokens: original RoPE up to L, the long factors past it.

        transformers applies one attention factor to both sides of L, so it stays on for short inputs.
        """
        if length > original_length:
            return self.long_factor, self.attention_factor
        return RescaleFactors.identity(len(self.long_factor)), self.attention_factor


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedEvaluation:
    """An evaluation ready to run."""

    spec: EvaluationSpec
    model: PreparedModel
    target_length: int
    lengths: tuple[int, ...]
    contenders: tuple[Contender, ...]

    def documents(self, length: int) -> tuple[NeedleDocument, ...]:
        """Held-out documents of `length` tokens."""
        seed = int(np.random.SeedSequence([self.spec.seed, EVALUATION_SEED]).generate_state(1)[0])
        return self.model.documents(
            split="validation",
            length=length,
            count=self.spec.documents,
            needles=self.spec.needles_per_document,
            seed=seed,
        )


def prepare_evaluation(spec: EvaluationSpec, jobs: JobStore) -> PreparedEvaluation:
    """Resolve the model, the factors and the checkpoint, and build one document of each length.

    Raises:
        JobNotFound, FactorsNotReady: a job that the spec names is unknown, or not finished.
        InvalidSpec: a field breaks a rule.
    """
    trained = _checkpoint(spec, jobs)
    found = _factors(spec, jobs)
    file = found or (trained[1] if trained is not None else None)
    name = spec.model or (file.model.name if file is not None else "pocket")
    target = spec.target_length or (file.target_length if file is not None else None)
    if target is None:
        raise InvalidSpec("target_length must be given when no factors say it", pointer="/target_length")
    check_scorer(spec.scorer.backend, tensor_parallel=spec.scorer.tensor_parallel)
    model = prepare_model(
        name,
        corpus=spec.corpus,
        original_length=file.original_max_position_embeddings if file is not None else None,
        target_length=target,
    )
    if file is not None:
        file.long_factor.check_fits(model.rope)
    lengths = spec.lengths or (model.rope.original_max_position_embeddings, target)
    prepared = PreparedEvaluation(
        spec=spec,
        model=model,
        target_length=target,
        lengths=tuple(sorted(set(lengths))),
        contenders=tuple(_contenders(spec, model, target, found=file, trained=trained)),
    )
    for length in prepared.lengths:
        prepared.documents(length)
    return prepared


def _checkpoint(spec: EvaluationSpec, jobs: JobStore) -> tuple[str, FactorFile] | None:
    """(checkpoint directory, the factors that it was trained with)."""
    if spec.finetune_id is None:
        return None
    job = jobs.get(spec.finetune_id)
    if job.kind != "finetune":
        raise InvalidSpec(
            f"finetune_id must name a fine-tuning job, but {job.id} is a {job.kind}", pointer="/finetune_id"
        )
    if job.result_json is None:
        raise FactorsNotReady(f"fine-tuning job {job.id} has no checkpoint: its state is {job.state}")
    result = json.loads(job.result_json)
    return result["checkpoint"], FactorFile.from_json(json.dumps(result["factors"]))


def _factors(spec: EvaluationSpec, jobs: JobStore) -> FactorFile | None:
    if spec.factors is not None:
        return parse_factor_file(spec.factors, pointer="/factors")
    return None if spec.search_id is None else factor_file_of(jobs, spec.search_id)


def _contenders(
    spec: EvaluationSpec,
    model: PreparedModel,
    target: int,
    *,
    found: FactorFile | None,
    trained: tuple[str, FactorFile] | None,
) -> Iterator[Contender]:
    name = model.worker_name
    if spec.baselines:
        for candidate in baselines(model.rope, target):
            yield Contender(name=_name(candidate), model=name, long_factor=candidate.factors, attention_factor=1.0)
        if found is not None and found.attention_factor != 1.0:
            # Found with an attention factor: the baseline that has one of its own gets it too.
            yarn = baseline("yarn", model.rope, target)
            own = own_attention_factor("yarn", model.rope, target)
            yield Contender(name="yarn+attention", model=name, long_factor=yarn.factors, attention_factor=own)
    if found is not None:
        yield Contender(name=FOUND, model=name, long_factor=found.long_factor, attention_factor=found.attention_factor)
    if trained is not None:
        checkpoint, file = trained
        yield Contender(
            name=FINETUNED, model=checkpoint, long_factor=file.long_factor, attention_factor=file.attention_factor
        )


def _name(candidate: Candidate) -> str:
    assert candidate.baseline_name is not None  # these are the analytic ones
    return candidate.baseline_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One contender at one length."""

    name: str
    length: int
    documents: tuple[NeedleDocument, ...]
    scores: tuple[DocumentScore, ...]

    def as_json(self) -> dict[str, object]:
        """The row as the evaluation's resource shows it; `by_depth` has (depth, nats per token, exact) a document."""
        summary = summarise(self.scores)
        return {
            "name": self.name,
            "length": self.length,
            "nll": summary.nll,
            "nll_standard_error": summary.nll_standard_error,
            "perplexity": summary.perplexity,
            "exact_match": summary.exact_match,
            "documents": summary.documents,
            "by_depth": [
                [document.depth, score.nats / score.tokens, score.exact]
                for document, score in zip(self.documents, self.scores, strict=True)
            ],
        }


def run_evaluation(runtime: Runtime, prepared: PreparedEvaluation) -> tuple[Row, ...]:
    """Score every contender at every length; a RoPE that two contenders share is scored once.

    Raises:
        LeaseLost, RunStopped: see `LeaseKeeper.check`.
        ScoringFailed: a document could not be scored.
    """
    runtime.enter(JobState.evaluating)
    return tuple(_Evaluation(runtime, prepared).rows())


class _Evaluation:
    def __init__(self, runtime: Runtime, prepared: PreparedEvaluation) -> None:
        self._runtime = runtime
        self._prepared = prepared
        self._original = prepared.model.rope.original_max_position_embeddings
        self._documents = {length: prepared.documents(length) for length in prepared.lengths}
        self._writer = ProgressWriter(runtime)
        self._done = 0
        self._total = len(self._distinct()) * prepared.spec.documents

    def rows(self) -> Iterator[Row]:
        scored: dict[tuple[str, int, RescaleFactors, float], tuple[DocumentScore, ...]] = {}
        for model in dict.fromkeys(contender.model for contender in self._prepared.contenders):
            scored |= self._score_model(model)
        for contender in self._prepared.contenders:
            for length in self._prepared.lengths:
                scores = scored[self._key(contender, length)]
                yield Row(name=contender.name, length=length, documents=self._documents[length], scores=scores)

    def _key(self, contender: Contender, length: int) -> tuple[str, int, RescaleFactors, float]:
        return (contender.model, length, *contender.rope_at(length, self._original))

    def _distinct(self) -> tuple[tuple[str, int, RescaleFactors, float], ...]:
        keys = [self._key(c, length) for c in self._prepared.contenders for length in self._prepared.lengths]
        return tuple(dict.fromkeys(keys))

    def _score_model(self, model: str) -> dict[tuple[str, int, RescaleFactors, float], tuple[DocumentScore, ...]]:
        keys = [key for key in self._distinct() if key[0] == model]
        tasks = [
            ScoringTask(key=f"{index}", factors=key[2], attention_factor=key[3], document=document)
            for index, (key, document) in enumerate((key, d) for key in keys for d in self._documents[key[1]])
        ]
        scores = self._run(model, tasks)
        per_key = self._prepared.spec.documents
        return {key: scores[i * per_key : (i + 1) * per_key] for i, key in enumerate(keys)}

    def _run(self, model: str, tasks: Sequence[ScoringTask]) -> tuple[DocumentScore, ...]:
        spec = self._prepared.spec
        settings = scorer_settings(
            spec.scorer, model, self._prepared.model.rope, max(self._original, *self._prepared.lengths)
        )
        scores: dict[int, DocumentScore] = {}
        with self._runtime.open_pool(settings, spec.workers) as pool:
            for outcome in pool.run(tasks, check=self._runtime.keeper.check):
                self._runtime.keeper.check()
                if outcome.score is None:
                    raise ScoringFailed(f"document of task {outcome.task_key} could not be scored: {outcome.error}")
                scores[int(outcome.task_key)] = outcome.score
                self._done += 1
                self._report(model)
        return tuple(scores[index] for index in range(len(tasks)))

    def _report(self, model: str) -> None:
        progress = Progress(
            stage="evaluating",
            document_passes=self._done,
            total_document_passes=self._total,
            fraction=self._done / self._total,
            note=", ".join(dict.fromkeys(c.name for c in self._prepared.contenders if c.model == model)),
        )
        self._writer.write(progress, flush=self._done == self._total)


def evaluation_result_json(prepared: PreparedEvaluation, rows: Sequence[Row]) -> str:
    """What the evaluation's resource shows as `result`."""
    return json.dumps(
        {
            "model": prepared.model.source.name,
            "original_length": prepared.model.rope.original_max_position_embeddings,
            "target_length": prepared.target_length,
            "rows": [row.as_json() for row in rows],
        }
    )
