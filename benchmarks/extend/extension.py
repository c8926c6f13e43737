"""The steps of `benchmarks/extend/once.py`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import figure
from benchmarks.measuring import HeldOut, Measured, factor_file
from benchmarks.session import Session
from evaluation.documents.windows import WindowSummary, summarise_windows, text_windows
from evaluation.models.source import model_sha256, resolve_model
from evaluation.scores.retention import Retention, retention
from evaluation.scores.score import ScoreSummary, summarise
from evaluation.scores.served_rope import ServedRope
from finetune.config import FinetuneSettings
from finetune.job import run_finetune
from finetune.results import FinetuneResult, TrainingProgress
from ropewalk.factors.factor_file import ModelIdentity
from search_space.candidates.candidate import Candidate
from search_space.candidates.step import Budget
from search_space.strategies.base import StrategyContext
from search_space.strategies.registry import make_strategy
from service.searches.books import Assignment, BookScores, InMemoryBook, Listeners
from service.searches.loop import FinishedSearch, SearchLoop
from workers.base import Scorer
from workers.factory import make_scorer
from workers.transformers_backend.generator import TransformersGenerator

_SEARCH_DOCUMENTS, _SMALL_SEARCH_DOCUMENTS = 16, 2
_SMALL_SEARCH = {"first_documents": 1, "startup": 4, "batch": 4, "generations": 1}
_BRED_FINALISTS = 4
_PROBED_STEPS = 3
_LEAST_FINETUNING = 60.0  # seconds: less would teach nothing
_TABLE_SECONDS = 30.0  # to score what was trained
_ROOM_FOR_ACTIVATIONS = 100 * 2**30  # bytes from which on nothing is computed twice
# Baselines in the table, beside the best one; the first is the unchanged model.
_SHOWN = ("none", "pi", "ntk", "yarn", "mrrope_pro")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of the table at every length; its plain text is within the original one."""

    name: str
    measured: tuple[Measured, ...]

    @property
    def needles(self) -> dict[int, ScoreSummary]:
        """By length."""
        return {one.length: summarise(one.needles) for one in self.measured}

    @property
    def text(self) -> WindowSummary:
        """Of the windows."""
        return summarise_windows([score for one in self.measured for score in one.text])


def original_length(model: str) -> int:
    """Of the model, in tokens."""
    return resolve_model(model).rope.original_max_position_embeddings


class Extension:
    """One run, from baselines to the table."""

    def __init__(self, session: Session, given: argparse.Namespace, scratch: Path) -> None:
        self._session = session
        self._given = given
        self._scratch = scratch
        self._rope = session.source.rope
        windows = text_windows(
            session.tokenizer, session.corpus, lengths=(session.original_length,), count=given.documents, seed=0
        )
        documents = {length: session.documents(length, given.documents) for length in session.lengths}
        self._held_out = HeldOut(documents=documents, windows=windows)

    def run(self) -> None:
        """Everything, as far as the time goes."""
        session = self._session
        scorer = make_scorer(session.settings(self._given.backend))
        session.report.add(f"- scorer: {scorer.info.backend}, {scorer.info.arithmetic}")
        search, held_out = self._search(scorer)
        winner = search.candidate(search.outcome.winner)
        rows = self._rows(scorer, search, held_out)
        scorer.close()
        if session.has_time("the fine-tuning", seconds=_LEAST_FINETUNING):
            result = self._finetune(winner)
            rows.append(self._tuned_row(f"{winner.baseline_name or 'found'}, fine-tuned", result, winner))
        self._table(rows)
        session.end()

    # -- searching ---------------------------------------------------------------------------------------------------

    def _search(self, scorer: Scorer) -> tuple[FinishedSearch, BookScores]:
        """What was found, and the scores on the held-out documents of the target length."""
        session, given, began = self._session, self._given, time.monotonic()
        context = StrategyContext(
            rope=self._rope,
            target_length=session.target_length,
            seed=0,
            attention_factor=None,
            documents=_SMALL_SEARCH_DOCUMENTS if given.small else _SEARCH_DOCUMENTS,
            budget=Budget(max_document_passes=given.passes),
        )
        strategy = make_strategy("auto", _SMALL_SEARCH if given.small else {}, context)
        documents = {
            "search": session.documents(session.target_length, strategy.max_documents, split="search"),
            "validation": self._held_out.documents[session.target_length],
        }
        book = InMemoryBook(scorer, documents.__getitem__)
        loop = SearchLoop(strategy, book, seed=0, finalists=_BRED_FINALISTS)
        loop.search(go_on=lambda: time.monotonic() - began < given.search_seconds)
        searched = time.monotonic() - began
        found = loop.validate()
        session.report.add(
            "",
            f"Search: {len(found.history)} candidates, {found.search_passes} passes over {session.target_length} "
            f"tokens each, {searched:.0f} s; validation: {found.validation_passes} passes, "
            f"{time.monotonic() - began - searched:.0f} s. {self._verdict(found)}",
        )
        return found, book.scores("validation")

    def _verdict(self, search: FinishedSearch) -> str:
        outcome = search.outcome
        name = search.candidate(outcome.best_baseline).baseline_name
        if outcome.difference is None:
            return f"Every found candidate was dropped in validation; the winner is the baseline {name}."
        apart = outcome.difference
        span = f"{apart.mean:+.3f} nats/token (95 %: {apart.low:+.3f} to {apart.high:+.3f})"
        wins = outcome.winner == outcome.best_bred
        said = "the winner is the found one" if wins else f"that is not beyond noise, so the winner is {name}"
        return f"The best found candidate against the best baseline, {name}: {span}; {said}."

    # -- scoring -----------------------------------------------------------------------------------------------------

    def _rows(self, scorer: Scorer, search: FinishedSearch, held_out: BookScores) -> list[Row]:
        """Baselines, and the best found factors where there are any: by the search, where validation dropped all."""
        trials = {one.candidate.baseline_name: one.trial for one in search.history}
        best = search.candidate(search.outcome.best_baseline).baseline_name
        entrants = {f"{name} (best baseline)" if name == best else name: trials[name] for name in _SHOWN}
        if best not in _SHOWN:
            entrants[f"{best} (best baseline)"] = search.outcome.best_baseline
        bred = [one.trial for one in search.finalists if one.candidate.baseline_name is None]
        if bred:
            entrants["found"] = bred[0] if search.outcome.best_bred is None else search.outcome.best_bred
        reader = TransformersGenerator(self._session.settings("transformers"))
        every = tuple(range(len(held_out.documents)))
        rows = []
        for name, trial in entrants.items():
            candidate = search.candidate(trial)
            held_out.score_missing({trial: Assignment(candidate=candidate, documents=every)}, Listeners())
            served = self._served(candidate)
            known = {self._session.target_length: held_out.in_order(trial)}
            rows.append(Row(name=name, measured=self._held_out.measure(scorer, reader, served, known=known)))
        reader.close()
        return rows

    def _served(self, candidate: Candidate) -> ServedRope:
        return ServedRope(original_length=self._session.original_length, scaling=candidate.scaling)

    # -- fine-tuning -------------------------------------------------------------------------------------------------

    def _finetune(self, winner: Candidate) -> FinetuneResult:
        session, source = self._session, self._session.source
        model = ModelIdentity.of(self._rope, name=source.name, sha256=model_sha256(source))
        file = factor_file(winner.scaling, model, self._rope, session.target_length)

        def train(steps: int, name: str, on_progress: Callable[[TrainingProgress], None]) -> FinetuneResult:
            settings, output = self._settings(steps), self._scratch / name
            return run_finetune(source, file, settings, output, on_progress, token_cache=self._scratch / "tokens")

        steps = self._given.steps
        if steps is None:
            probed: list[float] = []
            train(_PROBED_STEPS, "probe", lambda progress: probed.append(progress.seconds))
            # The first step pays for what is done once.
            per_step = (probed[-1] - probed[0]) / (_PROBED_STEPS - 1)
            allowed = min(self._given.finetune_seconds, session.remaining() - _TABLE_SECONDS)
            steps = max(_PROBED_STEPS, int(allowed / per_step))
        result = train(steps, "tuned", lambda progress: None)
        session.report.add(
            "",
            f"Fine-tuning: {result.steps} steps, {result.tokens:,} tokens in {result.seconds:.0f} s "
            f"({result.tokens / result.seconds:,.0f} tokens/s); loss of long documents {result.initial_loss_long:.3f} "
            f"to {result.final_loss_long:.3f}, of short ones {figure(result.initial_loss_short)} to "
            f"{figure(result.final_loss_short)} nats/token.",
        )
        return result

    def _settings(self, steps: int) -> FinetuneSettings:
        """Rows of the target length: two long, one packed from short documents; half of the documents have needles."""
        machine = self._session.machine
        return FinetuneSettings(
            steps=steps,
            learning_rate=self._given.learning_rate,
            warmup_steps=min(steps, max(1, steps // 10)),
            long_documents_per_step=2,
            short_sequences_per_step=1,
            rows_per_pass=1,
            needle_fraction=0.5,
            corpus=self._session.corpus_path,
            text_repeats=1e6 if self._given.small else FinetuneSettings().text_repeats,
            gradient_checkpointing="off" if (machine.free_bytes() or 0) > _ROOM_FOR_ACTIVATIONS else "auto",
            checkpoint_every=1_000_000,
            threads=None,
        )

    def _tuned_row(self, name: str, result: FinetuneResult, winner: Candidate) -> Row:
        model, served = str(result.checkpoint), self._served(winner)
        scorer = make_scorer(self._session.settings(self._given.backend, model=model))
        reader = TransformersGenerator(self._session.settings("transformers", model=model))
        row = Row(name=name, measured=self._held_out.measure(scorer, reader, served))
        scorer.close()
        reader.close()
        return row

    # -- the table ---------------------------------------------------------------------------------------------------

    def _table(self, rows: Sequence[Row]) -> None:
        session, base = self._session, rows[0]
        length = session.original_length
        session.report.add(
            "",
            f"Held-out needles, {self._given.documents} documents of each length: nats per answer token, and exact "
            f"match. Short: needles and {base.text.windows} windows of plain text of {length} tokens, percent kept of "
            "the unchanged model's.",
        )
        lengths = [f"{length:,}" for length in session.lengths]
        session.report.table(("factors", *lengths, "short: exact match kept", "short: perplexity", "kept"))
        for row in rows:
            needles = [f"{one.nll:.3f}, {one.exact_match:.0%}" for one in row.needles.values()]
            before, after = base.needles[length].exact_match, row.needles[length].exact_match
            kept = retention("exact match", before=before, after=after)
            read = retention("perplexity", before=base.text.perplexity, after=row.text.perplexity, less_is_better=True)
            session.report.row(row.name, *needles, _percent(kept), f"{row.text.perplexity:.3f}", _percent(read))


def _percent(one: Retention) -> str:
    return "-" if one.kept is None else f"{one.kept:.1f} %"
