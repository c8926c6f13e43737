"""What a score means. Symbols: N_j nats and T_j answer tokens of document j; NLL = sum N_j / sum T_j, taken once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.errors import InvalidScores
from evaluation.scores.dependence import variance_effect

_ROUNDING_NATS = 1e-3  # log-probabilities computed in low precision may come out a hair above zero
_RESAMPLES_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentScore:
    """One document under one candidate. nats: sum of -ln p over its answer tokens; exact: each of them is argmax.

    gradient, where it was asked for: d nats / d ln lambda_i for each pair, then d nats / d ln A.

    Raises:
        InvalidScores: `nats` is no finite number of at least 0, `tokens` not positive, or a derivative not finite.
    """

    document_id: str
    nats: float
    tokens: int
    exact: bool
    gradient: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_score(self.nats, self.tokens, of=self.document_id)
        if self.gradient is not None and not all(map(math.isfinite, self.gradient)):
            raise InvalidScores(f"derivatives must be finite, but got {self.gradient} of {self.document_id!r}")


def check_score(nats: float, tokens: int, *, of: str) -> None:
    """Raise InvalidScores unless these are a sum of nats and a number of tokens; `of` is for the message."""
    if not math.isfinite(nats) or nats < -_ROUNDING_NATS:
        raise InvalidScores(f"nats must be finite and at least 0, but got nats={nats} of {of!r}")
    if tokens < 1:
        raise InvalidScores(f"tokens must be at least 1, but got tokens={tokens} of {of!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreSummary:
    """nll and its standard error (None for one document) in nats per answer token; exact_match is by document."""

    nll: float
    perplexity: float
    exact_match: float
    documents: int
    tokens: int
    nll_standard_error: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedDifference:
    """NLL of a minus NLL of b on the same documents, nats per answer token, with its 95 % interval.

    widened: how many times wider it is than if the documents shared no text.
    """

    mean: float
    low: float
    high: float
    widened: float = 1.0

    def documents_to_tell(self, documents: int) -> int | None:
        """How many of the kind of these `documents` would leave zero out, were the mean to stay: the interval narrows
        with the square root of their number. None where there is no difference to tell."""
        if self.mean == 0.0:
            return None
        reach = (self.high if self.mean < 0.0 else self.low) - self.mean
        return math.ceil(documents * (reach / self.mean) ** 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthBin:
    """Documents with depth in [low, high) (the last bin includes 1); summary is None when there are none."""

    low: float
    high: float
    summary: ScoreSummary | None


def summarise(scores: Sequence[DocumentScore]) -> ScoreSummary:
    """Sum over count, once. Raises InvalidScores for no scores or a document scored twice."""
    _check_distinct(scores)
    nats, tokens = _columns(scores)
    nll = float(nats.sum() / tokens.sum())
    return ScoreSummary(
        nll=nll,
        perplexity=math.exp(nll) if nll < 700.0 else math.inf,
        exact_match=sum(score.exact for score in scores) / len(scores),
        documents=len(scores),
        tokens=int(tokens.sum()),
        nll_standard_error=ratio_standard_error(nats, tokens),
    )


def ratio_standard_error(nats: NDArray[np.float64], tokens: NDArray[np.float64]) -> float | None:
    """Standard error of sum(nats)/sum(tokens) with documents as the sampling unit; both (documents,).

    Linearised ratio estimator (Cochran, Sampling Techniques, 3rd ed., eq. 6.13): d_j = N_j - r T_j,
    se = sqrt(m/(m-1) * sum d_j^2) / sum T_j. No finite population correction. None for fewer than two documents.
    """
    documents = len(nats)
    if documents < 2:
        return None
    residuals = nats - nats.sum() / tokens.sum() * tokens
    return math.sqrt(documents / (documents - 1) * float(residuals @ residuals)) / float(tokens.sum())


def paired_difference(
    a: Sequence[DocumentScore],
    b: Sequence[DocumentScore],
    *,
    shares: NDArray[np.float64] | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> PairedDifference:
    """NLL(a) - NLL(b) with a percentile bootstrap over documents (Efron and Tibshirani 1993, ch. 13), 95 %.

    Both are resampled with the same documents, so what a document has in common under a and b cancels. The interval is
    widened around the mean by what `shares`, the text that documents of a have in common, does to their variance.
    Raises InvalidScores when a and b are not about the same documents.
    """
    if resamples < 1:
        raise InvalidScores(f"resamples must be at least 1, but got resamples={resamples}")
    b = _in_order_of(a, b)
    a_nats, a_tokens = _columns(a)
    b_nats, b_tokens = _columns(b)
    sums = np.stack([a_nats, a_tokens, b_nats, b_tokens], axis=1)  # (documents, 4)
    rng = np.random.default_rng(seed)
    drawn = [_resampled_differences(sums, rng, part) for part in _parts(resamples)]
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    mean = float(a_nats.sum() / a_tokens.sum() - b_nats.sum() / b_tokens.sum())
    widened = 1.0
    if shares is not None:
        of_a, of_b = (n / t.sum() - n.sum() / t.sum() ** 2 * t for n, t in ((a_nats, a_tokens), (b_nats, b_tokens)))
        widened = math.sqrt(variance_effect(of_a - of_b, shares[: len(sums), : len(sums)]))
    return PairedDifference(
        mean=mean,
        low=mean + widened * (float(low) - mean) if widened > 1.0 else float(low),
        high=mean + widened * (float(high) - mean) if widened > 1.0 else float(high),
        widened=widened,
    )


def by_depth_bins(depths: Mapping[str, float], scores: Sequence[DocumentScore], bins: int) -> tuple[DepthBin, ...]:
    """Scores in `bins` equal bins of [0, 1] by the depth of each document: one column of a needle heat map.

    `depths` holds the depth in [0, 1] of the first asked needle by document id.
    Raises InvalidScores when a score is about a document without a depth, or bins < 1.
    """
    if bins < 1:
        raise InvalidScores(f"bins must be at least 1, but got bins={bins}")
    _check_distinct(scores)
    binned: list[list[DocumentScore]] = [[] for _ in range(bins)]
    for score in scores:
        if score.document_id not in depths:
            raise InvalidScores(f"every score must be about a document of known depth, but got {score.document_id!r}")
        binned[min(int(depths[score.document_id] * bins), bins - 1)].append(score)
    return tuple(
        DepthBin(low=index / bins, high=(index + 1) / bins, summary=summarise(found) if found else None)
        for index, found in enumerate(binned)
    )


def _columns(scores: Sequence[DocumentScore]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    nats = np.array([score.nats for score in scores], dtype=np.float64)
    tokens = np.array([score.tokens for score in scores], dtype=np.float64)
    return nats, tokens


def _check_distinct(scores: Sequence[DocumentScore]) -> None:
    if not scores:
        raise InvalidScores("scores must hold at least one document score, but got none")
    ids = [score.document_id for score in scores]
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise InvalidScores(f"each document must be scored once, but got {twice!r} more than once")


def _in_order_of(a: Sequence[DocumentScore], b: Sequence[DocumentScore]) -> tuple[DocumentScore, ...]:
    _check_distinct(a)
    _check_distinct(b)
    by_id = {score.document_id: score for score in b}
    unpaired = sorted({score.document_id for score in a} ^ set(by_id))
    if unpaired:
        raise InvalidScores(
            f"both sides must have the same documents, but {len(unpaired)} are on one side only: {unpaired[:3]}"
        )
    return tuple(by_id[score.document_id] for score in a)


def _parts(resamples: int) -> list[int]:
    whole, rest = divmod(resamples, _RESAMPLES_AT_ONCE)
    return [_RESAMPLES_AT_ONCE] * whole + ([rest] if rest else [])


def _resampled_differences(sums: NDArray[np.float64], rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    documents = len(sums)
    counts = rng.multinomial(documents, np.full(documents, 1.0 / documents), size=resamples)
    totals = counts @ sums  # (resamples, 4)
    differences: NDArray[np.float64] = totals[:, 0] / totals[:, 1] - totals[:, 2] / totals[:, 3]
    return differences
