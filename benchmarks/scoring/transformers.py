"""The rows of transformers: the scorer by length, against the bare model, a change of candidate, and two workers."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import torch

from benchmarks.machine import figure, forward_flops
from benchmarks.scoring.bare import Work, Workload, all_logits, all_logits_peak, forward, scorer_peak
from benchmarks.scoring.ratios import HEADER, Ratio, in_turns, seconds
from benchmarks.session import Session
from workers.transformers_backend.rotary import RotaryTable
from workers.transformers_backend.scorer import TransformersScorer

_SWAPS = 20
_ROOM = 0.8  # of the free memory that logits of every position may take


class TransformersRows:
    """A scorer, and the same model bare, side by side on the device; as far as the time goes."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._session = session = workload.session
        self._repeats = workload.repeats
        self._scorer = TransformersScorer(session.settings("transformers"))
        self._model: Any = workload.work(session.lengths[0]).load()

    def close(self) -> None:
        """Give the device's memory back."""
        self._model = None
        self._scorer.close()

    def by_length(self) -> None:
        """Speed and memory of the scorer."""
        session, machine = self._session, self._session.machine
        session.report.add("", "Scoring with transformers:")
        session.report.table(
            ("length", "documents", "s per document", "tokens/s", "TFLOP/s", "of bf16 peak", "GiB above the model")
        )
        for length in session.lengths:
            if not session.has_time(f"length {length}"):
                break
            work = self._workload.work(length)
            score = partial(work.score, self._scorer)
            score()
            taken = statistics.median(seconds(score) for _ in range(self._repeats)) / len(work.documents)
            tflops = forward_flops(self._model.config, length) / taken / 1e12
            session.report.row(
                f"{length}",
                f"{len(work.documents)}",
                figure(taken, ".4g"),
                figure(length / taken, ",.0f"),
                figure(tflops),
                figure(None if machine.peak_tflops is None else tflops / machine.peak_tflops, ".1%"),
                figure(machine.peak_gib(score)),
            )

    def ratios(self) -> None:
        """Scorer against the bare forward pass, and against the logits of every position where they fit."""
        report, left_out = self._session.report, []
        report.add("", *HEADER.splitlines())
        for length in self._session.lengths:
            if not self._session.has_time(f"ratios at {length}"):
                break
            work = self._workload.work(length)
            scored = (f"scorer, {length} tokens", partial(work.score, self._scorer))
            bare = ("the bare forward passes", partial(forward, self._model, work.documents))
            report.add(in_turns(scored, bare, repeats=self._repeats).line())
            if not self._logits_fit(length):
                left_out.append(f"{length}")
                continue
            everywhere = (
                "log-softmax of the logits at every position",
                partial(all_logits, self._model, work.documents),
            )
            report.add(in_turns(scored, everywhere, repeats=self._repeats).line())
            mine, theirs = (self._session.machine.peak_gib(part) for _, part in (scored, everywhere))
            if mine is not None and theirs is not None:
                row = Ratio.of(f"{scored[0]}: peak memory above the model", everywhere[0], [(mine, theirs)], unit="GiB")
                report.add(row.line())
        if left_out:
            report.add("", f"Logits at every position do not fit the free memory at {', '.join(left_out)} tokens.")

    def swap(self) -> None:
        """Writing a candidate's factors into the model, against loading the model anew."""
        session = self._session
        rotary = RotaryTable(self._model, session.source.rope)

        def write() -> None:
            for call in range(_SWAPS):
                one = session.candidates[call % 2]
                rotary.write(one.scaling)
            session.machine.wait()

        def load() -> None:
            self._workload.work(session.lengths[0]).load()
            session.machine.wait()

        with torch.no_grad():
            found = in_turns(("hot swap of the factors", write), ("loading the model", load), repeats=self._repeats)
        found = found.each_of(_SWAPS)
        session.report.add("", f"Hot swap: {1000 * found.first:.3g} ms, the median of {self._repeats}.")
        session.report.add("", *HEADER.splitlines(), found.line())

    def _logits_fit(self, length: int) -> bool:
        """In the model's dtype, in float32, and as log-probabilities."""
        free = self._session.machine.free_bytes()
        return free is None or length * self._model.config.vocab_size * (self._model.dtype.itemsize + 8) < _ROOM * free


def measure_processes(workload: Workload) -> None:
    """What takes processes of its own, at the longest length: memory on a CPU, and two workers of Ray against one."""
    session, repeats = workload.session, workload.repeats
    work = workload.work(session.target_length)
    session.report.add("", *HEADER.splitlines(), _memory(work, repeats=repeats).line())
    session.report.add(_workers(session, work, repeats=repeats).line())


def _memory(work: Work, *, repeats: int) -> Ratio:
    pairs = [(scorer_peak(work), all_logits_peak(work)) for _ in range(repeats)]
    return Ratio.of("scorer: peak memory above the model", "with the logits at every position", pairs, unit="MiB")


def _workers(session: Session, work: Work, *, repeats: int) -> Ratio:
    """The same tasks on both; both pools stay open, and one rests while the other works."""
    from workers.base import ScoringTask
    from workers.pool.cluster import ensure_ray, shutdown_ray
    from workers.pool.scoring import ScoringPool

    tasks = [
        ScoringTask(
            key=f"{number}-{document.id}",
            scaling=one.scaling,
            document=document,
        )
        for number in range(4)
        for one in session.candidates
        for document in work.documents
    ]

    def run(pool: ScoringPool) -> None:
        for outcome in pool.run(tasks):
            assert outcome.error is None, outcome.error

    ensure_ray(num_cpus=3)
    try:
        with ScoringPool(work.settings, workers=2) as two, ScoringPool(work.settings, workers=1) as one:
            while len(two.ready_workers) < 2:
                run(two)
            both = (f"{len(tasks)} scores by two workers", lambda: run(two))
            return in_turns(both, ("by one", lambda: run(one)), repeats=repeats)
    finally:
        shutdown_ray()
