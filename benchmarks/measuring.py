"""What the benchmarks of extensions measure: needle documents and plain text under a scaling, length by length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.documents.needle import NeedleDocument
from evaluation.documents.windows import TextWindow, WindowScore
from evaluation.scores.score import DocumentScore
from evaluation.scores.served_rope import ServedRope
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.scaling import Scaling
from workers.base import Scorer
from workers.transformers_backend.generator import TransformersGenerator


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One length: needle documents and plain texts, the same ones for every row of a table."""

    length: int
    needles: tuple[DocumentScore, ...]
    text: tuple[WindowScore, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """Held-out needle documents and windows of plain text by length."""

    documents: Mapping[int, Sequence[NeedleDocument]]
    windows: Mapping[int, Sequence[TextWindow]]

    def measure(
        self,
        scorer: Scorer,
        reader: TransformersGenerator,
        rope: ServedRope,
        *,
        known: Mapping[int, tuple[DocumentScore, ...]] | None = None,
    ) -> tuple[Measured, ...]:
        """Everything on the RoPE that a server would run it with; `known` scores of a length are not computed again."""
        known = known or {}
        return tuple(
            Measured(
                length=length,
                needles=known.get(length) or scorer.score(rope.at(length), documents),
                text=tuple(reader.read(rope, window) for window in self.windows.get(length, ())),
            )
            for length, documents in self.documents.items()
        )


def factor_file(scaling: Scaling, model: ModelIdentity, rope: RopeConfig, target_length: int) -> FactorFile:
    """What a model is trained with: `scaling` past its original length, original RoPE up to it."""
    return FactorFile.of(rope, scaling, model=model, target_length=target_length)
