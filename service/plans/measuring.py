"""How fast this machine is with a model: a few passes, timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from evaluation.documents.needle import NeedleDocument
from ropewalk.rope.scaling import Scaling
from service.plans.model import PlannedModel
from service.plans.training_speed import MEASURED_SECONDS, MOST_TOKENS, training_rate
from service.plans.work import GIB, Device
from service.searches.model import prepare_model, scorer_settings
from service.specs.search import SearchSpec
from workers.arithmetic import choose_device, device_name
from workers.base import Scorer
from workers.factory import make_scorer
from workers.memory import whole_bytes

_MOST_PASSES = 16


def measured_device(spec: SearchSpec, tell: Callable[[str], None]) -> Device:
    """One worker of this machine, at the speed of a few passes without scaling over documents as the search has them.
    `tell` hears what is done before each pass: on a CPU one may take a minute.

    Raises:
        EvaluationError, RopewalkError, WorkersError: the model cannot be read or scored here; its weights must be.
    """
    prepared = prepare_model(spec.model, corpus=spec.objective.corpus, original_length=spec.original_length)
    model, longest = PlannedModel.of(prepared.source), min(spec.target_length, MOST_TOKENS)
    shortest = min(longest, model.source.rope.original_max_position_embeddings)
    rates: list[tuple[int, float]] = []
    tell("measuring: the model is loaded")
    scorer = make_scorer(scorer_settings(spec.scorer, prepared.worker_name, prepared.rope, spec.target_length))
    try:
        for tokens in sorted({shortest, longest}):
            documents = prepared.documents(split="search", length=tokens, count=_MOST_PASSES, needles=1, seed=spec.seed)
            seconds = _seconds(scorer, Scaling.identity(prepared.rope.num_pairs), documents, tell)
            rates.append((tokens, model.outline.flops.of(tokens) / seconds))
    finally:
        scorer.close()
    device = choose_device()
    trained = None if spec.finetune is None else training_rate(model, spec, tell)
    return Device(
        name=f"{device_name(device)}, measured: {rates[-1][1] / 1e12:.3g} TFLOP/s in passes of {rates[-1][0]} tokens",
        rates=tuple(rates),
        count=1,
        memory_gib=whole_bytes(device) / GIB,
        training_rate=trained,
    )


def _seconds(
    scorer: Scorer, scaling: Scaling, documents: Sequence[NeedleDocument], tell: Callable[[str], None]
) -> float:
    """Of one pass, the first one not counted."""
    spent: list[float] = []
    for number, document in enumerate(documents):
        last = f", the last one took {spent[-1]:.1f} s" if spent else ""
        tell(f"measuring: pass {number + 1} over {len(document.token_ids)} tokens{last}")
        begun = time.perf_counter()
        scorer.score(scaling, (document,))
        spent.append(time.perf_counter() - begun)
        if len(spent) > 2 and sum(spent[1:]) > MEASURED_SECONDS:
            break
    return sum(spent[1:]) / len(spent[1:])
