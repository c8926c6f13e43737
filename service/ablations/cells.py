"""One cell of an ablation, from its spec to its numbers; and the directory where finished cells lie as files."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from evaluation.documents.needle import NeedleDocument
from evaluation.scores.score import summarise
from search_space.candidates.candidate import Candidate
from service.ablations.results import BaselineResult, CellResult, CheckpointResult, HeldOutScore
from service.ablations.spec import AblationSpec, Cell
from service.errors import InvalidSpec
from service.searches.offline import OfflineSearch, run_offline
from service.searches.prepare import PreparedSearch, prepare_search
from workers.base import Scorer, ScorerSettings
from workers.errors import CANDIDATE_ERRORS
from workers.factory import make_scorer

Outcome = CellResult | tuple[BaselineResult, ...]

_SEARCH: TypeAdapter[CellResult] = TypeAdapter(CellResult)
_BASELINES: TypeAdapter[tuple[BaselineResult, ...]] = TypeAdapter(tuple[BaselineResult, ...])


# -- one cell --------------------------------------------------------------------------------------------------------


def run_cell(spec: AblationSpec, cell: Cell) -> Outcome:
    """Search, and score what was returned on the held-out documents; or score the baselines there.

    Raises:
        RunFailed: no analytic baseline could be scored.
        ScoringFailed: the returned factors cannot be scored on a held-out document.
        What preparing a search and opening a scorer raise.
    """
    held_out = _HeldOut.of(spec, cell)
    if cell.strategy is None:
        with _opened(held_out.settings) as scorer:
            return held_out.baselines(scorer)
    prepared = prepare_search(spec.search_spec(cell))
    settings = prepared.scorer_settings()
    with _opened(settings) as scorer:
        started = time.monotonic()
        found = run_offline(prepared, scorer)
        seconds = time.monotonic() - started
        if settings == held_out.settings:  # a model is loaded once where that is possible
            return held_out.result(found, scorer, seconds)
    with _opened(held_out.settings) as scorer:
        return held_out.result(found, scorer, seconds)


@contextmanager
def _opened(settings: ScorerSettings) -> Iterator[Scorer]:
    scorer = make_scorer(settings)
    try:
        yield scorer
    finally:
        scorer.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class _HeldOut:
    """The held-out documents of a model at a length, and how they are scored: the same for every strategy."""

    spec: AblationSpec
    cell: Cell
    base: PreparedSearch
    documents: tuple[NeedleDocument, ...]

    @classmethod
    def of(cls, spec: AblationSpec, cell: Cell) -> "_HeldOut":
        there = Cell(
            number=cell.number, strategy=None, model=cell.model, target_length=cell.target_length, seed=spec.base.seed
        )
        base = prepare_search(spec.search_spec(there))
        documents = base.model.documents(
            split="validation",
            length=cell.target_length,
            count=spec.heldout_documents,
            needles=spec.base.objective.needles_per_document,
            seed=spec.heldout_seed,
        )
        return cls(spec=spec, cell=cell, base=base, documents=documents)

    @property
    def settings(self) -> ScorerSettings:
        return self.base.scorer_settings()

    def score(self, candidate: Candidate, scorer: Scorer) -> HeldOutScore:
        scores = scorer.score(candidate.scaling, self.documents)
        return HeldOutScore.of(summarise(scores))

    def baselines(self, scorer: Scorer) -> tuple[BaselineResult, ...]:
        """Those that a search of the base spec starts with; one that cannot be scored is left out, as in a search."""
        rows: list[BaselineResult] = []
        for candidate in self.base.strategy.propose(0, ()).candidates:
            name = candidate.baseline_name
            if name is None:
                continue
            try:
                held_out = self.score(candidate, scorer)
            except CANDIDATE_ERRORS:
                continue
            rows.append(
                BaselineResult(
                    name=name,
                    model=self.cell.model,
                    target_length=self.cell.target_length,
                    held_out=held_out,
                    attention_factor=candidate.scaling.attention_factor,
                )
            )
        return tuple(rows)

    def result(self, found: OfflineSearch, scorer: Scorer, seconds: float) -> CellResult:
        winner = found.result.winner
        candidate = winner.scored.candidate
        assert self.cell.strategy is not None  # baselines are not searched
        return CellResult(
            label=self.cell.strategy.label,
            model=self.cell.model,
            target_length=self.cell.target_length,
            seed=self.cell.seed,
            search_passes=found.search.search_passes,
            search_tokens=found.search.search_tokens,
            validation_passes=found.search.validation_passes,
            validation_tokens=found.search.validation_tokens,
            held_out=self.score(candidate, scorer),
            winner=winner.name,
            attention_factor=candidate.scaling.attention_factor,
            verdict=found.result.verdict,
            seconds=seconds,
            scorer=scorer.info.fingerprint(),
            checkpoints=self._checkpoints(found, scorer),
        )

    def _checkpoints(self, found: OfflineSearch, scorer: Scorer) -> tuple[CheckpointResult, ...]:
        results: list[CheckpointResult] = []
        known: dict[int, HeldOutScore] = {}  # by trial: a leader often stays one
        for checkpoint in sorted(self.spec.checkpoints):
            point = found.search.leader_at(checkpoint)
            if point is None or point.leader is None:
                continue
            trial, candidate = point.leader.trial, point.leader.candidate
            if trial not in known:
                known[trial] = self.score(candidate, scorer)
            results.append(
                CheckpointResult(
                    checkpoint=checkpoint,
                    document_passes=point.document_passes,
                    tokens=point.tokens,
                    held_out=known[trial],
                    attention_factor=candidate.scaling.attention_factor,
                )
            )
        return tuple(results)


# -- where finished cells lie ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AblationStore:
    """An experiment's directory: `spec.json`, and a file for each finished cell that appears whole or not at all.

    On a cluster the directory must be on a disk that every node sees, as Tune's own storage must.
    """

    directory: Path

    @classmethod
    def claim(cls, spec: AblationSpec, directory: Path) -> "AblationStore":
        """The experiment's place under `directory`, begun now or before.

        Raises:
            InvalidSpec: cells of an experiment of this name but with another spec were begun there.
            OSError: it cannot be written.
        """
        store = cls((directory / spec.name).resolve())
        path = store.directory / "spec.json"
        if path.exists() and (store.tune_state.exists() or store._cells.exists()):
            _check_same(AblationSpec.model_validate_json(path.read_text(encoding="utf-8")), spec, store.directory)
        else:
            write_whole(path, spec.canonical_json())
        return store

    @property
    def tune_state(self) -> Path:
        """Tune's own folder."""
        return self.directory / "tune"

    @property
    def _cells(self) -> Path:
        return self.directory / "cells"

    def path(self, cell: Cell) -> Path:
        """Where the cell's numbers are once it has finished."""
        return self._cells / f"{cell.name}.json"

    def finished(self, cells: Sequence[Cell]) -> tuple[Cell, ...]:
        """Those of `cells` that need not be run."""
        return tuple(cell for cell in cells if self.path(cell).exists())

    def put(self, cell: Cell, outcome: Outcome) -> None:
        """Store a finished cell."""
        adapter: TypeAdapter[Outcome] = TypeAdapter(Outcome)
        write_whole(self.path(cell), adapter.dump_json(outcome, indent=1).decode())

    def search(self, cell: Cell) -> CellResult:
        """The numbers of a finished search."""
        return _SEARCH.validate_json(self.path(cell).read_bytes())

    def baselines(self, cell: Cell) -> tuple[BaselineResult, ...]:
        """The numbers of a finished cell of baselines."""
        return _BASELINES.validate_json(self.path(cell).read_bytes())


def _check_same(known: AblationSpec, given: AblationSpec, directory: Path) -> None:
    if known == given:
        return
    changed = [name for name in AblationSpec.model_fields if getattr(known, name) != getattr(given, name)]
    raise InvalidSpec(
        f"an experiment must be resumed with the spec that it was started with, but {', '.join(changed)} changed since "
        f"{directory} was begun: give the spec another name, or another directory with -o",
        pointer=f"/{changed[0]}",
    )


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
