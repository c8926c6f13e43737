"""The rows of `benchmarks/scoring/__main__.py` that need transformers and Ray alone."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.scoring.ratios import Ratio, Workload, in_turns
from evaluation.documents.needle import NeedleDocument
from workers.base import ScoringTask
from workers.pool.cluster import ensure_ray, shutdown_ray
from workers.pool.scoring import ScoringPool
from workers.transformers_backend.scorer import TransformersScorer

_MEGABYTE = 2.0**20


def rows(workload: Workload) -> Iterator[Ratio]:
    """Scorer against forward pass, answers against the whole vocabulary everywhere, one worker against two."""
    scorer = TransformersScorer(workload.settings("transformers"))
    model = _bare_model(workload)
    yield in_turns(
        ("TransformersScorer", lambda: _score(scorer, workload)),
        ("the bare forward passes of its documents", lambda: _forward(model, workload, answers_only=True)),
        repeats=workload.repeats,
    )
    yield in_turns(
        ("TransformersScorer: logits of the answers", lambda: _score(scorer, workload)),
        ("log-softmax of the logits at every position", lambda: _forward(model, workload, answers_only=False)),
        repeats=workload.repeats,
    )
    scorer.close()
    yield _memory(workload)
    yield _workers(workload)


def _score(scorer: TransformersScorer, workload: Workload, *, candidate: int = 0) -> None:
    one = workload.candidates[candidate]
    scorer.score(one.scaling, workload.documents)


def _bare_model(workload: Workload) -> Any:
    torch.set_num_threads(1)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        str(workload.path), dtype=torch.float32, use_safetensors=True, attn_implementation="sdpa"
    )
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def _forward(model: Any, workload: Workload, *, answers_only: bool) -> None:
    for document in workload.documents:
        token_ids = torch.tensor([document.token_ids], device=model.device)
        if answers_only:
            model(input_ids=token_ids, use_cache=False, logits_to_keep=_asked(document)).logits.sum().item()
        else:
            logits = model(input_ids=token_ids, use_cache=False).logits[0, :-1]
            taken = torch.log_softmax(logits.float(), dim=-1).gather(-1, token_ids[0, 1:, None])
            taken[_asked(document)].double().sum().item()


def _asked(document: NeedleDocument) -> torch.Tensor:
    """The positions whose logits predict an answer token."""
    return torch.tensor([p - 1 for span in document.answer_spans for p in range(*span)])


# -- memory ------------------------------------------------------------------------------------------------------------


def _memory(workload: Workload) -> Ratio:
    """Peaks of processes of their own: nothing that a process once held can hide what it needs later."""
    pairs = [
        (_in_a_process(_peak_of_scorer, workload), _in_a_process(_peak_of_full_logits, workload))
        for _ in range(workload.repeats)
    ]
    return Ratio(
        part="TransformersScorer: peak memory above the model",
        base="with the logits at every position",
        first=statistics.median(first for first, _ in pairs),
        second=statistics.median(second for _, second in pairs),
        ratio=statistics.median(first / second for first, second in pairs),
        unit="MiB",
        repeats=workload.repeats,
    )


def _in_a_process(work: Callable[[Workload], float], workload: Workload) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (workload,))


def _peak_of_scorer(workload: Workload) -> float:
    scorer = TransformersScorer(workload.settings("transformers"))
    return _peak(lambda: _score(scorer, workload))


def _peak_of_full_logits(workload: Workload) -> float:
    model = _bare_model(workload)
    return _peak(lambda: _forward(model, workload, answers_only=False))


def _peak(work: Callable[[], None]) -> float:
    """MiB that `work` holds at most, beyond what the process or the device holds before it."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / _MEGABYTE
    held = _Resident()
    before = held.now()
    with held:
        work()
    return (held.most - before) / _MEGABYTE


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


# -- workers -----------------------------------------------------------------------------------------------------------


def _workers(workload: Workload) -> Ratio:
    """The same tasks on two workers and on one; both pools stay open, and one rests while the other works."""
    ensure_ray(num_cpus=3)
    settings = workload.settings("transformers")
    tasks = [
        ScoringTask(
            key=f"{number}-{document.id}",
            scaling=one.scaling,
            document=document,
        )
        for number in range(4)
        for one in workload.candidates
        for document in workload.documents
    ]

    def run(pool: ScoringPool) -> None:
        for outcome in pool.run(tasks):
            assert outcome.error is None, outcome.error

    try:
        with ScoringPool(settings, workers=2) as two, ScoringPool(settings, workers=1) as one:
            while len(two.ready_workers) < 2:
                run(two)
            return in_turns(
                (f"{len(tasks)} scores by two workers", lambda: run(two)),
                ("by one", lambda: run(one)),
                repeats=workload.repeats,
            )
    finally:
        shutdown_ray()
