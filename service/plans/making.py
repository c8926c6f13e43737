"""From a spec to its plan. Nothing is downloaded but a model's small files, no document is built, nothing is scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evaluation.models.source import ModelSource, resolve_model
from evaluation.models.warnings import model_warnings
from ropewalk.errors import InvalidOriginalLength
from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.plan import Bound, Plan
from search_space.candidates.cost import Spent
from search_space.strategies.base import Strategy
from service.errors import InvalidSpec
from service.evaluations.contenders import contenders, setups_at
from service.evaluations.measures import MEASURES
from service.finetunes.prepare import factor_file_of
from service.plans.model import PlannedModel
from service.plans.text import text_notes
from service.plans.training import training_notes, training_work
from service.plans.work import GIB, Device, Work
from service.searches.strategy import strategy_of
from service.searches.training import finetune_settings
from service.searches.validation import FINALISTS, FIRST_ROUND, most_passes
from service.specs.evaluation import EvaluationSpec
from service.specs.finetune import FinetuneSpec
from service.specs.search import SearchSpec
from storage.jobs.store import JobStore

_RANKS = (2, 4, 8, 16)
_RACED = 0.4
"""Of its bound that a race is expected to take. On four pocket models they took .27 to .61 of it, .34 on the shipped
one and .46 on the others (benchmarks/reports/2026-11-27-search.md); scores decide, so another model may take more."""
_VALIDATED = 0.25
"""The same of validation's bound: .09 to .45, .22 on average."""


def plan_search(spec: SearchSpec, device: Device) -> Plan:
    """Search, validation, and the training that the spec hands the winner to.

    Raises:
        InvalidSpec, EvaluationError, RopewalkError, FinetuneError: what a plan reads of the spec and finds wrong.
    """
    try:
        source = resolve_model(spec.model, original_length=spec.original_length, weights=False)
    except InvalidOriginalLength as error:
        raise InvalidSpec(str(error), pointer="/original_length") from error
    model = PlannedModel.of(source)
    works = list(_search_works(spec, model))
    notes = [*model_warnings(source, spec.target_length), *_scoring_notes(model, spec, device), *text_notes(spec)]
    if spec.finetune is not None:
        works.append(
            training_work(model, finetune_settings(spec.finetune, source, spec.target_length), spec.target_length)
        )
        notes += training_notes(model, spec.finetune, spec.target_length, device)
    return _plan(model, spec.target_length, device, works, notes)


def plan_finetune(spec: FinetuneSpec, device: Device, *, jobs: JobStore | None = None) -> Plan:
    """A training on its own; `jobs` knows the search that a spec names.

    Raises:
        JobNotFound, FactorsNotReady: the search is unknown, or has no factors yet.
        As `plan_search`.
    """
    file = _factors(spec, jobs)
    assert file is not None  # the spec holds exactly one of the two
    source = _source_for(file, spec.model)
    model = PlannedModel.of(source)
    work = training_work(model, finetune_settings(spec.settings, source, file.target_length), file.target_length)
    notes = training_notes(model, spec.settings, file.target_length, device)
    return _plan(model, file.target_length, device, [work], list(notes))


def plan_evaluation(spec: EvaluationSpec, device: Device, *, jobs: JobStore | None = None) -> Plan:
    """Needle documents, RULER's prompts and plain texts of every contender; errors as `plan_finetune`."""
    file = _factors(spec, jobs)
    target = spec.target_length or (None if file is None else file.target_length)
    if target is None:
        raise InvalidSpec("target_length must be given when no factors say it", pointer="/target_length")
    name = spec.model or "pocket"
    source = resolve_model(name, weights=False) if file is None else _source_for(file, spec.model)
    model = PlannedModel.of(source)
    work, notes = _evaluation_work(spec, model, target, file)
    return _plan(
        model, target, device, [work], [*notes, *_memory_notes(model, target, spec.scorer.tensor_parallel, device)]
    )


# -- the parts -------------------------------------------------------------------------------------------------------


def _search_works(spec: SearchSpec, model: PlannedModel) -> Iterator[Work]:
    strategy, cost = strategy_of(spec, model.source.rope)
    most = Spent(passes=strategy.max_document_passes, tokens=strategy.max_tokens)
    first = strategy.propose(0, ())
    baselines = len(first.candidates) - len(first.bred)
    finalists = baselines + min(FINALISTS, strategy.max_candidates)
    held_out = most_passes(finalists, baselines, spec.objective.validation_documents)
    # Validation drops finalists by their scores, whatever the strategy, but none before the first round.
    first_round = finalists * min(FIRST_ROUND, spec.objective.validation_documents)
    likely_held_out = max(round(_VALIDATED * held_out), first_round)
    races = _races(strategy)
    searched = _raced(spec, model, most) if races else most
    bound: Bound = "at most" if races or spec.budget.patience is not None else "exactly"
    _, longest = cost.extremes(strategy.max_documents)
    ranks = spec.scorer.tensor_parallel
    yield Work(
        name="search",
        bound=bound,
        most=most,
        flops=most.tokens / longest * model.outline.flops.of(longest),
        expected=searched,
        expected_flops=searched.tokens / longest * model.outline.flops.of(longest),
        longest=longest,
        memory=model.scoring_bytes(longest, ranks=ranks),
        devices=spec.workers * ranks,
    )
    full = spec.target_length
    yield Work(
        name="validation",
        bound="at most",
        most=Spent(passes=held_out, tokens=held_out * full),
        flops=held_out * model.outline.flops.of(full),
        expected=Spent(passes=likely_held_out, tokens=likely_held_out * full),
        expected_flops=likely_held_out * model.outline.flops.of(full),
        longest=full,
        memory=model.scoring_bytes(full, ranks=ranks),
        devices=spec.workers * ranks,
    )


def _raced(spec: SearchSpec, model: PlannedModel, most: Spent) -> Spent:
    """What a race is expected to take: its share of what it could without a limit, and no more than the limit."""
    free = spec.budget.model_copy(update={"max_document_passes": None, "max_tokens": None})
    strategy, _ = strategy_of(spec.model_copy(update={"budget": free}), model.source.rope)
    return Spent(
        passes=min(most.passes, round(_RACED * strategy.max_document_passes)),
        tokens=min(most.tokens, round(_RACED * strategy.max_tokens)),
    )


def _races(strategy: Strategy) -> bool:
    """Whether scores decide how many passes there are: some candidates are kept open, and not for their gradients."""
    return strategy.propose(0, ()).keep_open and not strategy.needs_gradients


def _evaluation_work(
    spec: EvaluationSpec, model: PlannedModel, target: int, file: FactorFile | None
) -> tuple[Work, list[str]]:
    rope = model.source.rope
    served = any(measure.is_served for measure in MEASURES.values() if measure.is_asked(spec))
    who = list(contenders(rope, "model", target, baselined=spec.baselines, compared=served, found=file, trained=None))
    trained = spec.finetune_id is not None or spec.checkpoint is not None
    passes, tokens, flops = 0, 0, 0.0
    lengths = sorted(set(spec.lengths or (rope.original_max_position_embeddings, target)))
    each = spec.documents + len(spec.ruler_tasks) * spec.ruler_documents + spec.text_windows
    for length in lengths:
        count = each * (len(setups_at(who, [length])) + trained)
        passes, tokens, flops = passes + count, tokens + count * length, flops + count * model.outline.flops.of(length)
    spent = Spent(passes=passes, tokens=tokens)
    bound: Bound = "at most" if served else "exactly"
    notes = ["tasks of the harness are not counted"] if spec.harness else []
    notes += (
        ["answers that RULER generates are not counted, its prompts are as long as the length"] if spec.tasks else []
    )
    work = Work(
        name="evaluation",
        bound=bound,
        most=spent,
        flops=flops,
        expected=spent,
        expected_flops=flops,
        longest=max(lengths),
        memory=model.scoring_bytes(max(lengths), ranks=spec.scorer.tensor_parallel),
        devices=spec.workers * spec.scorer.tensor_parallel,
    )
    return work, notes


def _scoring_notes(model: PlannedModel, spec: SearchSpec, device: Device) -> Iterator[str]:
    yield from _memory_notes(model, spec.target_length, spec.scorer.tensor_parallel, device)
    original = model.source.rope.original_max_position_embeddings
    if spec.objective.skipped is None:
        less = model.outline.flops.of(spec.target_length) / model.outline.flops.of(original)
        yield (
            f"position-skipped search documents of {original} tokens (objective.skipped) take "
            f"{less:,.1f} times fewer operations than full ones"
        )


def _memory_notes(model: PlannedModel, target_length: int, ranks: int, device: Device) -> Iterator[str]:
    needed = model.scoring_bytes(target_length, ranks=ranks)
    if device.holds(needed):
        return
    yield f"scoring takes about {needed / GIB:,.1f} GiB on each device, which does not fit"
    for more in _RANKS:
        if more > ranks and device.holds(memory := model.scoring_bytes(target_length, ranks=more)):
            yield f"scoring with tensor_parallel={more} takes {memory / GIB:,.1f} GiB and fits"
            return
    yield f"tensor_parallel up to {_RANKS[-1]} does not make the scoring fit"


def _plan(model: PlannedModel, target: int, device: Device, works: Sequence[Work], notes: list[str]) -> Plan:
    outline = model.outline
    if not outline.counted:
        notes.append("operations are estimated from the weights: the model's code cannot be counted without values")
    return Plan(
        model=model.source.name,
        parameters=outline.structure.parameters,
        original_length=model.source.rope.original_max_position_embeddings,
        target_length=target,
        counted=outline.counted,
        device=device.name,
        rows=tuple(device.row(work) for work in works),
        notes=tuple(notes),
    )


def _factors(spec: FinetuneSpec | EvaluationSpec, jobs: JobStore | None) -> FactorFile | None:
    if spec.factors is not None:
        return spec.factors.read()
    if spec.search_id is None:
        return None
    if jobs is None:
        raise InvalidSpec(
            f"a plan without a server needs a factor file, but got search_id={spec.search_id!r}: "
            "give what `ropewalk factors` writes of it as `factors`, or ask a server, which knows it",
            pointer="/search_id",
        )
    return factor_file_of(jobs, spec.search_id)


def _source_for(file: FactorFile, model: str | None) -> ModelSource:
    length = file.original_max_position_embeddings
    return resolve_model(model or file.model.reference, original_length=length, weights=False)
