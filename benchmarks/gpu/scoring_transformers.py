"""The rows of transformers: the scorer by length, against the bare model, and a change of candidate."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.machine import figure, forward_flops
from benchmarks.gpu.session import Session
from benchmarks.scoring.ratios import HEADER, in_turns, seconds
from evaluation.documents.needle import NeedleDocument
from workers.arithmetic import choose_dtype
from workers.transformers_backend.rotary import RotaryTable
from workers.transformers_backend.scorer import TransformersScorer, load_model

_SWAPS = 20
_ROOM = 0.8  # of the free memory that logits of every position may take


def measure_transformers(session: Session, *, repeats: int, tokens: int) -> None:
    """Three tables, as far as the time goes; documents of one length have about `tokens` tokens together."""
    bench = _Bench(session, repeats=repeats, tokens=tokens)
    bench.by_length()
    bench.ratios()
    bench.swap()
    bench.close()


class _Bench:
    """A scorer, and the same model bare, side by side on the device."""

    def __init__(self, session: Session, *, repeats: int, tokens: int) -> None:
        self._session = session
        self._repeats = repeats
        self._tokens = tokens
        self._scorer = TransformersScorer(session.settings("transformers"))
        self._model: Any = self._load()

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
            documents = self._documents(length)
            score = partial(self._score, documents)
            score()
            taken = statistics.median(seconds(score) for _ in range(self._repeats)) / len(documents)
            tflops = forward_flops(self._model.config, length) / taken / 1e12
            session.report.row(
                f"{length}",
                f"{len(documents)}",
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
            documents = self._documents(length)
            scored = (f"scorer, {length} tokens", partial(self._score, documents))
            bare = ("the bare forward passes", partial(self._forward, documents))
            report.add(in_turns(scored, bare, repeats=self._repeats).line())
            if not self._logits_fit(length):
                left_out.append(f"{length}")
                continue
            everywhere = ("log-softmax of the logits at every position", partial(self._all_logits, documents))
            report.add(in_turns(scored, everywhere, repeats=self._repeats).line())
            mine, theirs = (self._session.machine.peak_gib(work) for _, work in (scored, everywhere))
            if mine is not None and theirs is not None:
                sizes = (f"{figure(mine)} GiB", f"{figure(theirs)} GiB", figure(mine / theirs))
                report.row(f"{scored[0]}: peak memory above the model", everywhere[0], *sizes, "1")
        if left_out:
            report.add("", f"Logits at every position do not fit the free memory at {', '.join(left_out)} tokens.")

    def swap(self) -> None:
        """Writing a candidate's factors into the model, against loading the model anew."""
        rotary = RotaryTable(self._model, self._session.source.rope)

        def write() -> None:
            for call in range(_SWAPS):
                one = self._session.candidates[call % 2]
                rotary.write(one.scaling)
            self._session.machine.wait()

        def load() -> None:
            self._load()
            self._session.machine.wait()

        with torch.no_grad():
            found = in_turns(("hot swap of the factors", write), ("loading the model", load), repeats=self._repeats)
        found = dataclasses.replace(found, first=found.first / _SWAPS, ratio=found.ratio / _SWAPS)
        report = self._session.report
        report.add("", f"Hot swap: {1000 * found.first:.3g} ms, the median of {self._repeats}.")
        report.add("", *HEADER.splitlines(), found.line())

    def _documents(self, length: int) -> tuple[NeedleDocument, ...]:
        return self._session.documents(length, max(1, self._tokens // length))

    def _load(self) -> Any:
        device = self._session.machine.device
        return load_model(self._session.source, dtype=choose_dtype("auto", device), device=device)

    def _score(self, documents: Sequence[NeedleDocument]) -> None:
        one = self._session.candidates[0]
        self._scorer.score(one.scaling, documents)

    def _logits_fit(self, length: int) -> bool:
        """In the model's dtype, in float32, and as log-probabilities."""
        free = self._session.machine.free_bytes()
        return free is None or length * self._model.config.vocab_size * (self._model.dtype.itemsize + 8) < _ROOM * free

    def _forward(self, documents: Sequence[NeedleDocument]) -> None:
        with torch.inference_mode():
            for document in documents:
                self._model(**self._inputs(document), logits_to_keep=_asked(document)).logits.sum().item()

    def _all_logits(self, documents: Sequence[NeedleDocument]) -> None:
        with torch.inference_mode():
            for document in documents:
                inputs = self._inputs(document)
                logits = self._model(**inputs).logits[0, :-1]
                taken = torch.log_softmax(logits.float(), dim=-1).gather(-1, inputs["input_ids"][0, 1:, None])
                taken[_asked(document).to(taken.device)].double().sum().item()

    def _inputs(self, document: NeedleDocument) -> dict[str, Any]:
        return {"input_ids": torch.tensor([document.token_ids], device=self._model.device), "use_cache": False}


def _asked(document: NeedleDocument) -> torch.Tensor:
    """The positions whose logits predict an answer token."""
    return torch.tensor([p - 1 for span in document.answer_spans for p in range(*span)])
