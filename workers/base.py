"""The contract of scoring: (candidate, documents) in, document scores out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from evaluation.documents.needle import NeedleDocument
from evaluation.scores.score import DocumentScore
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.scaling import Scaling
from workers.errors import InvalidScorerSettings
from workers.model_files import ModelFiles

DType = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerSettings:
    """What a worker needs to open its scorer.

    Raises:
        InvalidScorerSettings: a value is out of range; the message names it.
    """

    model: str
    target_length: int
    original_length: int
    rope: RopeConfig | None = None  # what scalings multiply; None: the model's own, for passes of original_length
    backend: str = "auto"
    dtype: DType = "auto"
    tensor_parallel: int = 1
    threads: int | None = None  # intra-op CPU threads; None: as the process was started
    gpus: float | None = None  # reserved per worker, a fraction shares one; None: what the cluster has to share out
    gradients: bool = False  # whether scores must carry derivatives on demand, which `auto` then takes care of
    document_seconds: float = 900.0  # vllm backend: an engine that takes longer for a document hangs, and is killed
    files: ModelFiles | None = None  # None: the model is where `model` says
    delay_seconds: float = 0.0  # per document, analytic backend only: stands in for the time of a forward pass

    def __post_init__(self) -> None:
        _require(bool(self.model), "model must not be empty", f"model={self.model!r}")
        _require(self.dtype in get_args(DType), f"dtype must be one of {', '.join(get_args(DType))}", self.dtype)
        _require(self.original_length >= 1, "original_length must be positive", self.original_length)
        _require(
            self.target_length >= self.original_length,
            "target_length must be at least original_length",
            f"target_length={self.target_length}, original_length={self.original_length}",
        )
        _require(self.tensor_parallel >= 1, "tensor_parallel must be positive", self.tensor_parallel)
        _require(self.threads is None or self.threads >= 1, "threads must be positive", self.threads)
        _require(self.gpus is None or self.gpus >= 0, "gpus must not be negative", self.gpus)
        _require(
            self.gpus is None or self.tensor_parallel == 1 or self.gpus >= self.tensor_parallel,
            "gpus must be at least tensor_parallel",
            f"gpus={self.gpus}, tensor_parallel={self.tensor_parallel}",
        )
        _require(self.document_seconds > 0, "document_seconds must be positive", self.document_seconds)
        _require(self.delay_seconds >= 0, "delay_seconds must not be negative", self.delay_seconds)


def _require(condition: bool, rule: str, value: object) -> None:
    if not condition:
        raise InvalidScorerSettings(f"{rule}, but got {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerInfo:
    """What produced a score. Equal fingerprints mean the same arithmetic: a candidate on a document gives one score, to
    the last bit, so it need not be computed twice.

    All that can change a bit belongs in a field, also where it looks like rounding: scores decide which candidates a
    search breeds from. Nothing else does (host, process, lengths, how tasks are put together), or equal scorers would
    not know each other.
    """

    backend: str  # "transformers", "vllm", "analytic": never "auto"
    dtype: str
    device: str  # the processor's or accelerator's name: kernels are chosen by it
    arithmetic: (
        str  # what else moves a bit on that device: CPU threads, instruction set, matmul precision, ranks, kernels
    )
    model_sha256: str  # of the weights
    config_sha256: str  # of the model's config.json
    version: str  # of the software that ran the forward pass, the scorer's own part included

    def fingerprint(self) -> str:
        """16 hexadecimal digits, equal when every field is."""
        fields = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(fields.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringTask:
    """The unit of work: one candidate on one document. `key` is the caller's own, handed back with the outcome."""

    key: str
    scaling: Scaling
    document: NeedleDocument
    gradient: bool = False  # whether the score must carry its derivatives: needs a DifferentiableScorer


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringOutcome:
    """What became of a task: exactly one of `score` and `error` is set."""

    task_key: str
    score: DocumentScore | None
    error: str | None  # one line: why this candidate cannot be scored on this document
    attempts: int  # how often the task was started, 1 when all went well
    seconds: float  # inside the scorer; documents scored in one batch share its time equally
    worker: str  # "host:pid" of the process that scored, or that reported the error
    scorer: str  # its ScorerInfo.fingerprint(); "" when no process lived to report the error


class Scorer(Protocol):
    """Scores documents under candidate factors, on a model that is loaded once.

    State: the factors in the model are an implementation's own business. Every call writes the ones it was given, so
    that calls do not see each other: scoring A, B, A gives the same numbers for A twice, bit for bit.

    Ownership: the scorer owns the model and its device memory until `close`. It keeps no document and no candidate.

    Threads: one thread at a time; a scorer is not shared. `info` may be read from anywhere.

    Positions: every document is read from position 0 with exactly the given factors, short ones too: a document within
    the original length is *not* scored with original RoPE, unless the factors say so.
    """

    @property
    def info(self) -> ScorerInfo:
        """What produces the scores; constant from opening on, readable after `close`."""
        ...

    def score(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
        """One score per document, in the order given; none for no documents.

        A score holds the sum of nats over all answer tokens of all spans, their number, and whether each of them was
        the model's first choice. It does not depend on which other documents are in the call beyond float rounding
        (1e-6 nats per token in float32). The attention factor scales cos and sin, as `attention_factor` does in a
        Hugging Face config, at every length.

        Raises:
            InvalidRescaleFactors: not one factor per pair of the model.
            DocumentTooLong: a document has more than `target_length` tokens. Nothing was scored.
            ScoringFailed: the model gave no finite number.
            ScorerClosed: after `close`.
            Anything else is trouble of the machine (memory, device), not of the candidate.
        """
        ...

    def close(self) -> None:
        """Give the model's memory back. May be called again."""
        ...


class KvCacheBytes(Protocol):
    """Of the keys and values that a backend keeps for documents of `target_length` tokens, on each of `ranks`."""

    def __call__(
        self, config: Mapping[str, Any], *, target_length: int, device: str, item_bytes: int, ranks: int
    ) -> int: ...


@runtime_checkable
class DifferentiableScorer(Scorer, Protocol):
    """A scorer whose nats can be differentiated with respect to the factors."""

    def score_with_gradients(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
        """As :meth:`Scorer.score`, and every score carries its `gradient`: n + 1 numbers for n pairs, in nats.

        Nats are those of :meth:`Scorer.score` within 1e-5 per answer token, not to the last bit: a score from here must
        not stand in for one from there. Leaves no trace that `score` could see. Derivatives are good to the model's
        dtype; on accelerators whose kernels sum in no fixed order their last bits change from call to call.

        Raises:
            ScoringFailed: a derivative is not finite; otherwise as :meth:`Scorer.score`. A document whose backward pass
                does not fit the device's memory is trouble of the machine.
        """
        ...
