"""What a benchmark of one model works with: the model, its documents, two candidates, a clock and a report."""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path

import torch

from benchmarks.corpus import write_installed_text
from benchmarks.machine import Machine, Report, software
from evaluation.documents.corpus import Corpus, load_corpus
from evaluation.documents.factory import DocumentFactory, DocumentRequest
from evaluation.documents.needle import NeedleDocument, Split
from evaluation.documents.skipping import Skipping
from evaluation.models.source import ModelSource, load_tokenizer, model_sha256, resolve_model
from evaluation.models.tokenizer import Tokenizer
from search_space.candidates.baselines import baseline
from search_space.candidates.candidate import Candidate
from workers.base import DType, ScorerSettings


class Session:
    """Everything that the tables of one run have in common."""

    def __init__(
        self,
        *,
        source: ModelSource,
        corpus_path: str | None,
        machine: Machine,
        report: Report,
        lengths: tuple[int, ...],
        threads: int | None,
        max_seconds: float,
        began: float,
    ) -> None:
        self.source = source
        self.corpus_path = corpus_path
        self.machine = machine
        self.report = report
        self.lengths = lengths
        self._threads = threads
        self._max_seconds = max_seconds
        self._began = began

    @property
    def original_length(self) -> int:
        """Of the model, in tokens."""
        return self.source.rope.original_max_position_embeddings

    @property
    def target_length(self) -> int:
        """The longest documents."""
        return max(self.lengths)

    @functools.cached_property
    def candidates(self) -> tuple[Candidate, Candidate]:
        """YaRN and MrRoPE-Pro, to go between."""
        length = max(self.target_length, 2 * self.original_length)
        return baseline("yarn", self.source.rope, length), baseline("mrrope_pro", self.source.rope, length)

    @functools.cached_property
    def corpus(self) -> Corpus:
        """The text of the haystacks."""
        return load_corpus(self.corpus_path)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's."""
        return load_tokenizer(self.source)

    @functools.cached_property
    def _factory(self) -> DocumentFactory:
        return DocumentFactory(self.tokenizer, self.corpus)

    def documents(
        self,
        length: int,
        count: int,
        *,
        split: Split = "validation",
        seed: int = 0,
        skipping: Skipping | None = None,
    ) -> tuple[NeedleDocument, ...]:
        """The first ones of this length, split and seed, with one needle each; always the same."""
        request = DocumentRequest(target_length=length, count=count, seed=seed, split=split, skipping=skipping)
        return self._factory.build(request)

    def settings(
        self, backend: str, *, model: str | None = None, dtype: DType = "auto", target_length: int | None = None
    ) -> ScorerSettings:
        """A scorer of the model, or of one made from it, in the device's own dtype where none is given."""
        return ScorerSettings(
            model=self.source.reference if model is None else model,
            backend=backend,
            dtype=dtype,
            target_length=target_length or max(self.target_length, self.original_length),
            original_length=self.original_length,
            threads=self._threads,
        )

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def remaining(self) -> float:
        """Seconds until the run should be over."""
        return self._max_seconds - self.elapsed()

    def end(self) -> None:
        """The report's last line."""
        self.report.add("", f"{self.elapsed():.0f} s in all.")

    def has_time(self, what: str, *, seconds: float = 0.0) -> bool:
        """Whether more than `seconds` are left; says what is left out when not."""
        if self.remaining() > seconds:
            return True
        self.report.add("", f"Left out for lack of time, {self.elapsed():.0f} s having passed: {what}.")
        return False


def open_session(
    given: argparse.Namespace, model: str, scratch: str, *, title: str, lengths: tuple[int, ...]
) -> Session:
    """Find the model and the text, and begin the report with what was measured on what."""
    began = time.monotonic()
    threads = getattr(given, "threads", None)
    if given.small or threads == 1:
        torch.set_num_threads(1)  # more would only wait for each other
    machine = Machine.here(getattr(given, "peak_tflops", None))
    source = resolve_model(model)
    corpus = given.corpus
    if corpus is None and model != "pocket":  # which has a corpus of its own
        corpus = str(write_installed_text(Path(scratch) / "installed.txt"))
    report = Report(given.report, title)
    name = given.gguf[0].name if given.gguf else Path(model).name
    peak = "unknown" if machine.peak_tflops is None else f"{machine.peak_tflops:g} TFLOP/s, dense bf16"
    report.add(
        f"- device: {machine.name}; peak: {peak}",
        f"- software: {software()}",
        f"- model: {name}, weights sha256 {model_sha256(source)[:12]}, "
        f"original length {source.rope.original_max_position_embeddings}",
        f"- dtype: {'bfloat16' if machine.device.type == 'cuda' else 'float32'}",
    )
    return Session(
        source=source,
        corpus_path=corpus,
        machine=machine,
        report=report,
        lengths=lengths,
        threads=threads,
        max_seconds=given.max_seconds,
        began=began,
    )
