"""A candidate as an Optuna trial, and back, bit for bit.

Parameters are what the dashboard plots; they may lose a gene's step. What is rebuilt comes from the attributes:
floats survive JSON exactly, since both ways use the shortest text that means the same double.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.candidate import Candidate, Gene
from storage import records
from storage.records import TrialRecord

#: User attributes are shown by the dashboard; the genes, which it shows as parameters, are kept as a system attribute.
GENES = "ropewalk:genes"
REASON = "reason"

_STATES: Mapping[TrialState, records.TrialState] = {
    TrialState.WAITING: records.TrialState.waiting,
    TrialState.RUNNING: records.TrialState.running,
    TrialState.COMPLETE: records.TrialState.complete,
    TrialState.PRUNED: records.TrialState.pruned,
    TrialState.FAIL: records.TrialState.failed,
}


def to_trial(generation: int, slot: int, candidate: Candidate) -> FrozenTrial:
    """A waiting trial with everything about the candidate."""
    return create_trial(
        state=TrialState.WAITING,
        params={gene.name: int(gene.value) if gene.integer else gene.value for gene in candidate.genes},
        distributions={gene.name: _distribution(gene) for gene in candidate.genes},
        user_attrs={
            "generation": generation,
            "slot": slot,
            "origin": candidate.origin,
            "parents": list(candidate.parents),
            "critical_pair": candidate.critical_pair,
            "attention_factor": candidate.scaling.attention_factor,
            "long_factor": list(candidate.scaling.factors.values),
        },
        system_attrs={GENES: [[g.name, g.value, g.low, g.high, g.step, g.integer] for g in candidate.genes]},
    )


def to_record(trial: FrozenTrial) -> TrialRecord:
    """The trial as this room hands it out."""
    attributes = {**trial.user_attrs, GENES: trial.system_attrs[GENES]}
    return record_of(trial.number, trial.state, trial.value, attributes)


def record_of(number: int, state: TrialState, value: float | None, attributes: Mapping[str, Any]) -> TrialRecord:
    """A trial from its parts; `attributes` are its user attributes and `GENES`."""
    return TrialRecord(
        number=number,
        generation=attributes["generation"],
        slot=attributes["slot"],
        candidate=_candidate(attributes),
        state=_STATES[state],
        nll=value if state == TrialState.COMPLETE else None,
        reason=attributes.get(REASON),
    )


def _candidate(attributes: Mapping[str, Any]) -> Candidate:
    return Candidate(
        scaling=Scaling(RescaleFactors(tuple(attributes["long_factor"])), attributes["attention_factor"]),
        critical_pair=attributes["critical_pair"],
        genes=tuple(_gene(*values) for values in attributes[GENES]),
        origin=attributes["origin"],
        parents=tuple(attributes["parents"]),
    )


@lru_cache(maxsize=2**16, typed=True)
def _gene(name: str, value: float, low: float, high: float, step: float | None, integer: bool) -> Gene:
    """Candidates have many genes, most of which others had before: values lie on a grid."""
    return Gene(name=name, value=value, low=low, high=high, step=step, integer=integer)


def _distribution(gene: Gene) -> BaseDistribution:
    if gene.integer:
        return IntDistribution(int(gene.low), int(gene.high))
    return FloatDistribution(gene.low, gene.high, step=gene.step if _is_on_grid(gene) else None)


def _is_on_grid(gene: Gene) -> bool:
    """Whether Optuna would take the step as it is: it rounds `high` down to the decimal grid, with a warning, if it is
    off it, and refuses a value off the grid."""
    if gene.step is None:
        return False
    low, high, value, step = (Decimal(str(number)) for number in (gene.low, gene.high, gene.value, gene.step))
    return (high - low) % step == 0 and (value - low) % step == 0
