"""How much of their text documents share.

Haystacks are cut from one corpus: where it is short for them they share runs of text. What that does to an interval
over their scores is in :mod:`evaluation.scores.dependence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

GRAM = 8  # tokens in a row
MOST_GRAMS = 8192  # of a document that are compared: of longer ones a sample, the same grams in each
_TOLD_BELOW = 0.8  # of independent documents for each document: intervals a tenth wider are no news
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Overlap:
    """Of documents, in their order. shares: (documents, documents), |A and B| / sqrt(|A| |B|) of their 8-gram sets."""

    shares: NDArray[np.float64] = field(repr=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Overlap) and np.array_equal(self.shares, other.shares)

    def __hash__(self) -> int:
        return hash(self.shares.tobytes())

    @property
    def documents(self) -> int:
        """How many."""
        return len(self.shares)

    @property
    def share(self) -> float:
        """How much of itself a document has in common with the one that is most like it, as a mean over documents."""
        if self.documents < 2:
            return 0.0
        return float((self.shares - np.eye(self.documents)).max(axis=1).mean())

    @property
    def effective(self) -> float:
        """How many independent documents they are worth at least: as if their scores correlated by the text that they
        share, though needles and depths differ (Kish, Survey Sampling, 1965, 5.4)."""
        return float(self.documents**2 / self.shares.sum())


def overlap_warning(overlap: Overlap, what: str) -> str | None:
    """A clause on `what`, documents that share so much text that they are worth fewer; None for others."""
    if overlap.effective > _TOLD_BELOW * overlap.documents:
        return None
    return (
        f"the {overlap.documents} {what} share text with each other ({overlap.share:.0%} with the one most alike) and "
        f"are worth at least {overlap.effective:.1f} independent ones: a longer corpus has more"
    )


def measure_overlap(documents: Sequence[Sequence[int]]) -> Overlap:
    """Of at least one document, as token ids."""
    from scipy.sparse import csr_array  # a part of a second, which every server would wait for

    grams = [_gram_hashes(document) for document in documents]
    rows = np.repeat(np.arange(len(grams)), [len(one) for one in grams])
    known, columns = np.unique(np.concatenate(grams), return_inverse=True)
    # Sparse: hundreds of documents have millions of grams, and few in common.
    marks = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(grams), len(known)))
    common: NDArray[np.float64] = (marks @ marks.T).toarray()
    sizes = np.sqrt(np.maximum(common.diagonal(), 1.0))
    shares = common / np.outer(sizes, sizes)
    np.fill_diagonal(shares, 1.0)
    return Overlap(shares=shares)


def _gram_hashes(token_ids: Sequence[int]) -> NDArray[np.uint64]:
    """A 64-bit hash of each different run of GRAM tokens, sorted; of a document with many, those below a bound that
    follows from its length, so that equal runs are sampled in all documents of that length or in none."""
    ids = np.asarray(token_ids, dtype=np.uint64)
    count = max(len(ids) - GRAM + 1, 0)
    hashes = np.zeros(count, dtype=np.uint64)
    for offset in range(GRAM):
        hashes *= _MULTIPLIER
        hashes += ids[offset : offset + count] + np.uint64(1)
    hashes = (hashes ^ (hashes >> np.uint64(31))) * _MIX
    if count > MOST_GRAMS:
        hashes = hashes[hashes < np.uint64(int(2**64 * (MOST_GRAMS / count)))]
    return np.unique(hashes)
