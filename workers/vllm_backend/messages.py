"""What a scorer or a generator and its vLLM engine say to each other: the engine lives in another process.

Requests go one way, one reply to each comes back, in order, pickled. Nothing here needs torch or vLLM.
"""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.documents.skipping import Jump
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.scaling import Scaling
from workers.base import DType


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenEngine:
    """Load a model. The first request, and asked once."""

    model: str  # a directory with config.json and safetensors
    rope: RopeConfig
    original_length: int
    target_length: int
    dtype: DType
    tensor_parallel: int
    threads: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineLoading:
    """Before the reply to OpenEngine, any number of times: which share of the model's tensors has been read."""

    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOpened:
    """Reply to OpenEngine: what runs the forward pass, in the words of ScorerInfo."""

    dtype: str
    device: str
    arithmetic: str
    version: str
    places_positions: bool  # whether documents whose positions jump can be scored: every layer reads one table
    tokens_per_group: int  # in a ScoreGroup of more than one document, at most


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineRefused:
    """Reply to OpenEngine: the model cannot be scored here, in one line. The process ends."""

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineDocument:
    """Tokens, and which of them are scored: positions within [1, len(token_ids)), ascending."""

    token_ids: tuple[int, ...]
    answers: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreGroup:
    """Score documents that share a forward pass, under these factors, and at positions that jump alike."""

    scaling: Scaling
    documents: tuple[EngineDocument, ...]
    jumps: tuple[Jump, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerScore:
    """Of one document: the sum of -ln p over its answers, and how many of them were the first choice."""

    nats: float
    correct: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupScored:
    """Reply to ScoreGroup: one score per document, in order."""

    scores: tuple[AnswerScore, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ContinuePrompt:
    """Continue a prompt greedily, all of it under these factors, until an end token or `max_new_tokens`."""

    scaling: Scaling
    token_ids: tuple[int, ...]
    max_new_tokens: int
    end_tokens: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptContinued:
    """Reply to ContinuePrompt: the new tokens, the end token among them if there is one."""

    token_ids: tuple[int, ...]
    nats: float  # sum of -ln p over the new tokens; no finite number if the model gave none


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineBroken:
    """Reply to any work: the engine raised, in one line, and can no longer be trusted. The process ends."""

    reason: str


Work = ScoreGroup | ContinuePrompt
Done = GroupScored | PromptContinued
Request = OpenEngine | Work
Reply = EngineLoading | EngineOpened | EngineRefused | Done | EngineBroken
