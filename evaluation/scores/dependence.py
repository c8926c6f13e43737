"""What text that documents share does to the variance of a mean over them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_KNOWABLE = 0.2
"""Documents that are worth fewer than five independent ones cannot tell by themselves how far their scores go
together: their own mean takes most of it away."""
_BEYOND_CHANCE = 2.0  # standard errors


def variance_effect(residuals: NDArray[np.float64], shares: NDArray[np.float64]) -> float:
    """By how much the variance of a mean over documents is larger than that of independent ones; at least 1.

    residuals: (documents,), what each adds to the mean, less its average; shares: (documents, documents), the text that
    each two have in common. Scores are taken to correlate by c times the share, where c is how far they do so here
    (the least squares of r_i r_j / var(r) on the share over all pairs): 0 unless it is beyond chance, and 1 where the
    documents share so much that it cannot be known. The effect is then 1 + c (sum(shares) / n - 1), Kish's.
    """
    documents = len(residuals)
    if documents < 2:
        return 1.0
    most = float(shares.sum()) / documents
    if most <= 1.0:
        return 1.0
    pairs = np.triu_indices(documents, 1)
    weights, variance = shares[pairs], float(residuals @ residuals) / documents
    together = 1.0
    if most / documents <= _KNOWABLE and variance > 0.0:
        products = np.outer(residuals, residuals)[pairs] / variance
        square = float(weights @ weights)
        together = float(weights @ products) / square
        if together < _BEYOND_CHANCE / np.sqrt(square):
            together = 0.0
    return 1.0 + min(together, 1.0) * (most - 1.0)
