"""What scoring is measured against: the model's own forward passes, and its logits at every position; with memory."""

from __future__ import annotations

import multiprocessing
import resource
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.session import Session
from evaluation.documents.needle import NeedleDocument
from evaluation.models.source import ModelSource
from evaluation.scores.score import DocumentScore
from search_space.candidates.candidate import Candidate
from workers.arithmetic import choose_device, choose_dtype
from workers.base import Scorer, ScorerSettings
from workers.transformers_backend.scorer import TransformersScorer, load_model

_MIB = 2.0**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Documents of one length under one candidate, and the scorer that is asked for them."""

    source: ModelSource
    settings: ScorerSettings
    candidate: Candidate
    documents: tuple[NeedleDocument, ...]

    def score(self, scorer: Scorer) -> tuple[DocumentScore, ...]:
        """As a search scores them."""
        return scorer.score(self.candidate.scaling, self.documents)

    def load(self) -> Any:
        """The model alone, as the scorer holds it."""
        device = choose_device()
        return load_model(
            self.source,
            dtype=choose_dtype(self.settings.dtype, device),
            device=device,
            target_length=self.settings.target_length,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What is measured: `documents` of each length, or as many as have about `tokens` together, `repeats` times."""

    session: Session
    documents: int | None
    tokens: int
    repeats: int

    def work(self, length: int) -> Work:
        """At one length, under the first of the session's candidates."""
        session, count = self.session, self.documents or max(1, self.tokens // length)
        return Work(
            source=session.source,
            settings=session.settings("transformers"),
            candidate=session.candidates[0],
            documents=session.documents(length, count),
        )


@torch.inference_mode()
def forward(model: Any, documents: Sequence[NeedleDocument]) -> None:
    """The passes that scoring them needs, and nothing else."""
    for document in documents:
        model(**_inputs(model, document), logits_to_keep=_asked(document)).logits.sum().item()


@torch.inference_mode()
def all_logits(model: Any, documents: Sequence[NeedleDocument]) -> None:
    """Log-probabilities from the logits of every position."""
    for document in documents:
        inputs = _inputs(model, document)
        logits = model(**inputs).logits[0, :-1]
        taken = torch.log_softmax(logits.float(), dim=-1).gather(-1, inputs["input_ids"][0, 1:, None])
        taken[_asked(document).to(taken.device)].double().sum().item()


def _inputs(model: Any, document: NeedleDocument) -> dict[str, Any]:
    return {"input_ids": torch.tensor([document.token_ids], device=model.device), "use_cache": False}


def _asked(document: NeedleDocument) -> torch.Tensor:
    """The positions whose logits predict an answer token."""
    return torch.tensor([p - 1 for span in document.answer_spans for p in range(*span)])


# -- memory on a CPU -------------------------------------------------------------------------------------------------


def scorer_peak(work: Work) -> float:
    """MiB that scoring holds at most above the model, in a process of its own."""
    return _in_a_process(_scorer_peak, work)


def all_logits_peak(work: Work) -> float:
    """MiB that the logits of every position hold at most above the model, in a process of its own."""
    return _in_a_process(_all_logits_peak, work)


def _in_a_process(measure: Callable[[Work], float], work: Work) -> float:
    """Nothing that a process once held can hide what it needs later."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (work,))


def _scorer_peak(work: Work) -> float:
    scorer = TransformersScorer(work.settings)
    return _peak(lambda: work.score(scorer))


def _all_logits_peak(work: Work) -> float:
    torch.set_num_threads(1)
    model = work.load()
    return _peak(lambda: all_logits(model, work.documents))


def _peak(work: Callable[[], object]) -> float:
    held = _Resident()
    before = held.now()
    with held:
        work()
    return (held.most - before) / _MIB


class _Resident:
    """The most memory this process holds while the block runs, looked at every millisecond.

    The kernel's own high-water mark (VmHWM) is above what is held now, once the model was loaded.
    """

    def __init__(self) -> None:
        self.most = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def now(self) -> int:
        """Bytes."""
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()

    def __enter__(self) -> _Resident:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.is_set():
            self.most = max(self.most, self.now())
            time.sleep(0.001)
