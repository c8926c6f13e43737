"""The tables of `python -m benchmarks.agreement`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.agreement.ranks import SHARES, Agreement, mean_with_error, noise_ceiling
from benchmarks.machine import figure, forward_flops
from benchmarks.search.pocket_scorer import PocketScorer
from benchmarks.search.score_store import StoredScorer
from benchmarks.session import Session
from evaluation.architecture.config import load_config
from evaluation.documents.needle import NeedleDocument
from evaluation.documents.skipping import Skipping
from evaluation.models.source import read_config
from search_space.candidates.candidate import Candidate
from search_space.strategies.base import StrategyContext
from search_space.strategies.seeds import seed_baselines
from search_space.strategies.shape_space import ShapeSpace
from workers.base import Scorer
from workers.factory import make_scorer

_SKIPPED_SEED = 1  # of skipped documents; full ones have the run's own
_SHOWN = 12  # candidates of the second table


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """The scores of one kind of document: nats per answer token, (candidates, documents), and seconds a document."""

    name: str
    tokens: int
    nll: NDArray[np.float64]
    seconds: float

    @property
    def means(self) -> NDArray[np.float64]:
        """Of each candidate, (candidates,)."""
        result: NDArray[np.float64] = self.nll.mean(axis=1)
        return result


class Tables:
    """Everything that is measured of one model."""

    def __init__(self, session: Session, given: argparse.Namespace, scratch: Path) -> None:
        self._session = session
        self._given = given
        original = session.original_length
        self._lengths = session.lengths or tuple(original * times for times in ((2,) if given.small else (2, 4, 8)))
        self._forms = [
            Skipping(tokens=tokens, gaps=gaps, places=places) for tokens, gaps, places in given.forms or ()
        ] or [Skipping(tokens=tokens, gaps=gaps) for tokens in (original // 2, original) for gaps in (1, 2)]
        store = given.store or scratch / "scores.sqlite"
        self._scorer = self._open(store)
        self._config: Any = load_config(read_config(session.source.path))

    def _open(self, store: Path) -> Scorer:
        session = self._session
        if self._given.pocket:
            return PocketScorer(store, session.source.name)
        settings = session.settings("transformers", dtype=self._given.dtype, target_length=max(self._lengths))
        return StoredScorer(make_scorer(settings), store)

    def write(self) -> None:
        """A table a length."""
        for length in self._lengths:
            if self._session.has_time(f"length {length}"):
                self._length(length)
        self._scorer.close()
        self._session.end()

    def _length(self, length: int) -> None:
        candidates = self._candidates(length)
        full = self._column(f"full, {self._given.full} documents", candidates, length, None, self._given.full)
        report = self._session.report
        report.add("", f"## {length:,} tokens, {length / self._session.original_length:g} L", "")
        report.add(f"{len(candidates)} candidates; {self._given.skipped} skipped documents each.")
        report.table(
            ("documents", "tokens", "s a document", "share of peak", "rho", "rho of the best half", _kept_head())
        )
        self._row(full, noise_ceiling(full.nll), name=f"{full.name}: one half ranks the other")
        columns = [full]
        for form in self._forms:
            if form.tokens + form.gaps > length or not self._session.has_time(f"{form} at {length}"):
                continue
            column = self._column(f"{form}", candidates, length, form, self._given.skipped)
            self._row(column, Agreement.of(column.means, full.means))
            columns.append(column)
        self._means(candidates, columns)
        if self._given.finalists and self._session.has_time(f"held-out documents at {length}"):
            self._held_out(candidates, columns, length)

    def _candidates(self, length: int) -> tuple[Candidate, ...]:
        rope = self._session.source.rope
        context = StrategyContext(rope=rope, target_length=length, seed=self._given.seed, attention_factor=None)
        space = ShapeSpace.of(context)
        points = space.spread(self._given.shapes, np.random.default_rng(self._given.seed))
        shapes = tuple(space.candidate(point.tolist(), origin="initial") for point in points)
        return seed_baselines(context) + shapes

    def _column(
        self, name: str, candidates: Sequence[Candidate], length: int, form: Skipping | None, count: int
    ) -> Column:
        seed = self._given.seed if form is None else _SKIPPED_SEED + self._given.seed
        documents = self._session.documents(length, count, split="search", seed=seed, skipping=form)
        self._scorer.score(candidates[0].scaling, documents[:1])  # what is done once
        began = time.perf_counter()
        nll = np.array([_nll(self._scorer, one, documents) for one in candidates])
        seconds = (time.perf_counter() - began) / nll.size
        return Column(name=name, tokens=len(documents[0].token_ids), nll=nll, seconds=seconds)

    def _row(self, column: Column, found: Agreement, *, name: str | None = None) -> None:
        peak = self._session.machine.peak_tflops
        tflops = forward_flops(self._config, column.tokens) / column.seconds / 1e12
        self._session.report.row(
            name or column.name,
            f"{column.tokens:,}",
            figure(column.seconds),
            figure(None if peak is None else tflops / peak, ".1%"),
            figure(found.correlation, ".3f"),
            figure(found.best_half, ".3f"),
            " / ".join(f"{one:.2f}" for one in found.kept),
        )

    def _means(self, candidates: Sequence[Candidate], columns: Sequence[Column]) -> None:
        """The best by full documents, with what each kind of document says of them."""
        report = self._session.report
        report.table(("candidate", *(one.name for one in columns)))
        for index in np.argsort(columns[0].means, kind="stable")[:_SHOWN]:
            cells = [
                f"{mean:.3f} ± {error:.3f}" for mean, error in (mean_with_error(one.nll[index]) for one in columns)
            ]
            report.row(candidates[index].origin.removeprefix("baseline:"), *cells)

    def _held_out(self, candidates: Sequence[Candidate], columns: Sequence[Column], length: int) -> None:
        """What each kind of document would choose among the shapes, on full documents that nothing was chosen by."""
        documents = self._session.documents(length, self._given.finalists)
        baselines = [index for index, one in enumerate(candidates) if one.baseline_name is not None]
        shapes = [index for index, one in enumerate(candidates) if one.baseline_name is None]
        best = min(baselines, key=lambda index: columns[0].means[index])
        theirs = _nll(self._scorer, candidates[best], documents)
        name = candidates[best].baseline_name
        report = self._session.report
        report.add("", f"{len(documents)} held-out full documents; best baseline {name}: {theirs.mean():.4f}.")
        report.table(("best shape by", "NLL", f"minus {name}, ± standard error"))
        for column in columns:
            chosen = min(shapes, key=lambda index, column=column: column.means[index])  # type: ignore[misc]
            mine = _nll(self._scorer, candidates[chosen], documents)
            apart, error = mean_with_error((mine - theirs).tolist())
            report.row(column.name, f"{mine.mean():.4f}", f"{apart:+.4f} ± {error:.4f}")


def _nll(scorer: Scorer, candidate: Candidate, documents: Sequence[NeedleDocument]) -> NDArray[np.float64]:
    """Nats per answer token, (documents,)."""
    return np.array([one.nats / one.tokens for one in scorer.score(candidate.scaling, documents)])


def _kept_head() -> str:
    return "best kept in " + " / ".join(f"{share:.0%}" for share in SHARES)
