"""A scorer without a model's weights, for tests and demonstrations: `backend="analytic"`."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.documents.needle import NeedleDocument
from evaluation.documents.score_key import document_digest
from evaluation.scores.score import DocumentScore
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.critical_pair import theoretical_critical_pair
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from workers.base import ScorerInfo, ScorerSettings
from workers.checks import check_documents
from workers.errors import ScorerClosed
from workers.model import find_model

_FLOOR_NATS = 0.02  # per token, of the easiest document at the optimum
_CURVATURE = 4.0  # nats per token and squared unit of log factor, mean over pairs
_ATTENTION_CURVATURE = 2.0  # nats per token and squared unit of log attention factor
_SKIPPED_NATS = 0.4  # per token, by which position-skipped documents are harder
_SKIPPED_FREEDOM = 3  # degrees of freedom of Student's t, their own optimum's distribution
_DOCUMENT_SPREAD = 0.08  # standard deviation of a document's own optimum around the common one, log factors
_EXACT_BELOW_NATS = 0.25  # per token


@dataclass(frozen=True, kw_only=True, slots=True)
class _Preference:
    """Where one document's optimum lies, and how difficult it is."""

    offsets: NDArray[np.float64]  # (n,) added to the common optimum's log factors
    difficulty: float  # nats per token, not below 0


class AnalyticScorer:
    """Implements :class:`workers.base.DifferentiableScorer` with a formula in place of a forward pass.

    nats per token = floor + difficulty(document) + curvature * mean over pairs of (ln lambda_i - optimum_i(document))^2
    + attention curvature * (ln A - ln A_best)^2. Smooth in every factor, zero gradient at :meth:`optimum` averaged over
    documents, deterministic: a document's difficulty and its deviation from the common optimum come from its tokens and
    answer spans alone, as a model's would. Few documents therefore mislead a search as few real ones do. Needs the
    model's config, not its weights.

    Raises:
        EvaluationError, RopewalkError: from resolving the model.
    """

    def __init__(self, settings: ScorerSettings) -> None:
        self._settings = settings
        self._rope = find_model(settings, weights=False).rope
        self._scale = settings.target_length / settings.original_length
        self._optimum = _log_optimum(self._rope, self._scale)
        self._log_attention = math.log(1.0 + 0.05 * math.log(self._scale))
        self._closed = False

    @property
    def info(self) -> ScorerInfo:
        """What produces the scores; the model here is a formula, of the rotary embedding and the scale."""
        identity = hashlib.sha256(repr((self._rope, self._scale)).encode()).hexdigest()
        return ScorerInfo(
            backend="analytic",
            dtype="float64",
            device="cpu",
            arithmetic=f"numpy {np.__version__}",
            model_sha256=identity,
            config_sha256="",  # nothing but the rotary embedding is read
            version="3",
        )

    def optimum(self) -> Scaling:
        """The one with the least expected nats."""
        factors = RescaleFactors(tuple(float(value) for value in np.exp(self._optimum)))
        return Scaling(factors, math.exp(self._log_attention))

    def score(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
        """See :meth:`workers.base.Scorer.score`. Sleeps `delay_seconds` per document."""
        scores = self.score_with_gradients(scaling, documents)
        return tuple(replace(score, gradient=None) for score in scores)

    def score_with_gradients(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
        """See :meth:`workers.base.DifferentiableScorer.score_with_gradients`; the same bits as `score`, any time."""
        if self._closed:
            raise ScorerClosed("a scorer must be open to score, but close() was called")
        scaling.check_fits(self._rope.num_pairs)
        check_documents(documents, target_length=self._settings.target_length)
        log_factors, log_attention = np.log(scaling.factors.as_array()), math.log(scaling.attention_factor)
        return tuple(self._score_one(log_factors, log_attention, document) for document in documents)

    def close(self) -> None:
        """Refuse further scores."""
        self._closed = True

    def _score_one(
        self, log_factors: NDArray[np.float64], log_attention: float, document: NeedleDocument
    ) -> DocumentScore:
        if self._settings.delay_seconds:
            time.sleep(self._settings.delay_seconds)
        preference = _preference(document, self._rope.num_pairs)
        misses = log_factors - self._optimum - preference.offsets
        attention_miss = log_attention - self._log_attention
        distance, attention_distance = float(np.mean(misses**2)), attention_miss**2
        per_token = (
            _FLOOR_NATS + preference.difficulty + _CURVATURE * distance + _ATTENTION_CURVATURE * attention_distance
        )
        slopes = (*(2.0 * _CURVATURE / len(misses) * misses).tolist(), 2.0 * _ATTENTION_CURVATURE * attention_miss)
        tokens = document.answer_tokens
        return DocumentScore(
            document_id=document.id,
            nats=per_token * tokens,
            tokens=tokens,
            exact=per_token < _EXACT_BELOW_NATS,
            gradient=tuple(slope * tokens for slope in slopes),
        )


def _log_optimum(rope: RopeConfig, scale: float) -> NDArray[np.float64]:
    """Natural log of the best factors, (n,): 1.3 s from two pairs before the theoretical critical one on, NTK before.

    The shape that LongRoPE2 finds on real models. At s = 1 the best factors are 1.
    """
    critical_pair = max(1, theoretical_critical_pair(rope) - 2)
    log_tail = math.log(1.3 * scale) if scale > 1 else 0.0
    result: NDArray[np.float64] = log_tail * np.minimum(np.arange(rope.num_pairs) / critical_pair, 1.0)
    return result


def _preference(document: NeedleDocument, num_pairs: int) -> _Preference:
    seed = int.from_bytes(document_digest(document)[:8], "big")
    generator = np.random.default_rng(seed)
    if document.jumps:  # ranks as full documents do, with heavier tails, and measures something else
        spread: NDArray[np.float64] = _DOCUMENT_SPREAD * generator.standard_t(_SKIPPED_FREEDOM, num_pairs)
        return _Preference(offsets=spread, difficulty=_SKIPPED_NATS + float(generator.exponential(0.05)))
    offsets: NDArray[np.float64] = generator.normal(0.0, _DOCUMENT_SPREAD, num_pairs)
    return _Preference(offsets=offsets, difficulty=float(generator.exponential(0.05)))
