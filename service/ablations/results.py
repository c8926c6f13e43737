"""What an ablation found: a value per cell, over seeds a row per strategy, model and length, and all of it as JSON."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from evaluation.scores.score import ScoreSummary
from ropewalk.version import ROPEWALK_VERSION
from ropewalk.wire.reports import Verdict
from service.ablations.spec import AblationSpec

FORMAT = "ropewalk.ablation/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutScore:
    """Factors on held-out documents: NLL and its standard error in nats per answer token, exact match by document."""

    nll: float
    nll_standard_error: float | None
    exact_match: float
    documents: int

    @classmethod
    def of(cls, summary: ScoreSummary) -> "HeldOutScore":
        """The part of a summary that an ablation reports."""
        return cls(
            nll=summary.nll,
            nll_standard_error=summary.nll_standard_error,
            exact_match=summary.exact_match,
            documents=summary.documents,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointResult:
    """The leader of the last step that `checkpoint` search document passes paid for; it had taken `document_passes`."""

    checkpoint: int
    document_passes: int
    tokens: int | None = None
    """Of those passes; None in cells of earlier versions."""
    held_out: HeldOutScore
    attention_factor: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CellResult:
    """One search and what its returned factors are worth on held-out documents.

    Passes are in forward passes (one with gradients counts as three). `checkpoints` are those that the search lived to
    see. `seconds` are those of search and validation, model loading and held-out scoring not counted.
    """

    label: str
    model: str
    target_length: int
    seed: int
    search_passes: int
    search_tokens: int | None = None
    """Of those passes; None in cells of earlier versions."""
    validation_passes: int
    validation_tokens: int | None = None
    held_out: HeldOutScore
    winner: str
    """`trial N`, or the name of the baseline that was returned."""
    attention_factor: float
    verdict: Verdict
    seconds: float
    scorer: str
    """Fingerprint of what scored the held-out documents."""
    checkpoints: tuple[CheckpointResult, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineResult:
    """An analytic baseline on the same held-out documents."""

    name: str
    model: str
    target_length: int
    held_out: HeldOutScore
    attention_factor: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A cell that ended with an error; running the experiment again tries it again."""

    cell: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """One number over seeds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of at least one value."""
        found = list(values)
        return cls(median=median(found), low=min(found), high=max(found))


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """Held-out NLL over seeds after `document_passes` of `tokens` (medians over seeds) of search."""

    document_passes: float
    tokens: float | None
    """None where a cell of an earlier version does not say."""
    nll: Spread


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A strategy on a model at a length, over its seeds.

    `curve` are the checkpoints that every seed lived to see, then the end. `beaten` counts the seeds whose factors beat
    the best baseline by the search's own verdict.
    """

    label: str
    model: str
    target_length: int
    seeds: tuple[int, ...]
    search_passes: Spread
    search_tokens: Spread | None
    validation_passes: Spread
    validation_tokens: Spread | None
    nll: Spread
    exact_match: Spread
    attention_factor: Spread
    seconds: Spread
    beaten: int
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ablation:
    """An experiment as far as it got: results by cell number, those missing left out."""

    spec: AblationSpec
    cells: tuple[CellResult, ...]
    baselines: tuple[BaselineResult, ...]
    failures: tuple[Failure, ...] = ()

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Every (model, length) that something is known about, in the order of the spec."""
        return tuple(dict.fromkeys((cell.model, cell.target_length) for cell in self.spec.cells()))

    def groups(self) -> tuple[Group, ...]:
        """Model by model, length by length; the lowest median NLL first."""
        members: dict[tuple[tuple[str, int], str], list[CellResult]] = {}
        for cell in self.cells:
            members.setdefault(((cell.model, cell.target_length), cell.label), []).append(cell)
        found = [(place, _group(cells)) for (place, _), cells in members.items()]
        return tuple(
            group for _, group in sorted(found, key=lambda item: (self.places.index(item[0]), item[1].nll.median))
        )

    def baselines_at(self, model: str, target_length: int) -> tuple[BaselineResult, ...]:
        """The lowest NLL first."""
        here = [one for one in self.baselines if (one.model, one.target_length) == (model, target_length)]
        return tuple(sorted(here, key=lambda one: one.held_out.nll))

    def to_dict(self) -> dict[str, object]:
        """What `ablation.json` holds."""
        return {
            "format": FORMAT,
            "ropewalk_version": ROPEWALK_VERSION,
            "spec": self.spec.model_dump(mode="json"),
            "groups": [asdict(group) for group in self.groups()],
            "cells": [asdict(cell) for cell in self.cells],
            "baselines": [asdict(baseline) for baseline in self.baselines],
            "failures": [asdict(failure) for failure in self.failures],
        }

    def to_json(self) -> str:
        """`to_dict` for readers."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"


def _group(cells: Sequence[CellResult]) -> Group:
    """Cells of one strategy, model and length."""
    first, ordered = cells[0], sorted(cells, key=lambda cell: cell.seed)
    return Group(
        label=first.label,
        model=first.model,
        target_length=first.target_length,
        seeds=tuple(cell.seed for cell in ordered),
        search_passes=Spread.of(cell.search_passes for cell in cells),
        search_tokens=_known(cell.search_tokens for cell in cells),
        validation_passes=Spread.of(cell.validation_passes for cell in cells),
        validation_tokens=_known(cell.validation_tokens for cell in cells),
        nll=Spread.of(cell.held_out.nll for cell in cells),
        exact_match=Spread.of(cell.held_out.exact_match for cell in cells),
        attention_factor=Spread.of(cell.attention_factor for cell in cells),
        seconds=Spread.of(cell.seconds for cell in cells),
        beaten=sum(cell.verdict == "beats_best_baseline" for cell in cells),
        curve=_curve(cells),
    )


def _curve(cells: Sequence[CellResult]) -> tuple[CurvePoint, ...]:
    by_checkpoint: dict[int, list[CheckpointResult]] = {}
    for cell in cells:
        for one in cell.checkpoints:
            by_checkpoint.setdefault(one.checkpoint, []).append(one)
    # The seeds that search longest would make a curve of their own where the others have ended.
    whole = [reached for _, reached in sorted(by_checkpoint.items()) if len(reached) == len(cells)]
    points = [_point((one.document_passes, one.tokens, one.held_out.nll) for one in reached) for reached in whole]
    return (*points, _point((cell.search_passes, cell.search_tokens, cell.held_out.nll) for cell in cells))


def _known(values: Iterable[int | None]) -> Spread | None:
    found = list(values)
    known = [value for value in found if value is not None]
    return Spread.of(known) if len(known) == len(found) else None


def _point(values: Iterable[tuple[int, int | None, float]]) -> CurvePoint:
    """Of (document passes, tokens, NLL) triples."""
    passes, tokens, nll = zip(*values, strict=True)
    read = _known(tokens)
    return CurvePoint(document_passes=median(passes), tokens=None if read is None else read.median, nll=Spread.of(nll))
