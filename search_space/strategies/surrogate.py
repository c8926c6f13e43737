"""What the scores so far say about points that were not scored: a Gaussian process over the shape space."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import norm, qmc
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern
from threadpoolctl import ThreadpoolController

from search_space.candidates.candidate import ScoredCandidate

# Nats per token added before the logarithm: differences among candidates that answer everything with ease are no news.
_EASE = 1e-3
# What one document's part in the variance of a merit may be; that of n documents is 1 / n of it. The fit chooses, as
# the few documents of a candidate say less than their own spread pretends when it fails on one in so many. Before there
# are scores its logarithm is normal around 0: the squared mean is the variance of an exponential distribution.
_DOCUMENT_VARIANCES = (0.1, 0.3, 1.0, 3.0, 10.0)
_PRIOR_DEVIATION = 1.0
_SPREAD = 0.08  # standard deviation of the points tried around a good one, as a share of each axis
_GLOBAL_POINTS = 256
_LOCAL_POINTS = 64
_CENTRES = 4
# A hundred points in five dimensions say nothing about shorter ones: noise is taken for a rugged landscape there.
_LENGTH_SCALES = (0.3, 5.0)

_LIBRARIES = ThreadpoolController()  # numpy's and scipy's linear algebra: both are loaded by now

P = ParamSpec("P")
R = TypeVar("R")


def _one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates linear algebra that takes one thread.

    On a hundred points the threads of a BLAS wait for each other for longer than they work (four times the processor
    time on two cores), and how many there are changes a result's last bits.
    """
    limited: Callable[P, R] = _LIBRARIES.wrap(limits=1, user_api="blas")(function)
    return limited


@dataclass(frozen=True, kw_only=True, slots=True)
class Observations:
    """Points (m, axes) in [0, 1], the merit of each freed of the effect of its documents (m,), and how many there were
    (m,)."""

    points: NDArray[np.float64]
    merits: NDArray[np.float64]
    documents: NDArray[np.float64]


def observe(points: Sequence[NDArray[np.float64]], scored: Sequence[ScoredCandidate]) -> Observations:
    """What a surrogate learns from; failed candidates must be left out.

    Candidates were scored on different documents, some harder than others. The effect of a set of documents is the
    mean, over the formulas that have them and the anchor too, of the merit on the set minus that on the anchor: the
    documents of the candidate with the fewest. Shapes would tell it wrong, as those with more documents were chosen for
    their luck on the first. Sets that no formula shares with the anchor are taken as they are.
    """
    sets = [frozenset(score.index for score in one.scores) for one in scored]
    anchor = min(sets, key=lambda documents: (len(documents), sorted(documents)))
    effects = {documents: _effect(documents, anchor, scored, sets) for documents in set(sets)}
    raw = np.array([merit(one, documents) for one, documents in zip(scored, sets, strict=True)])
    return Observations(
        points=np.array(points),
        merits=raw - np.array([effects[documents] for documents in sets]),
        documents=np.array([len(documents) for documents in sets], dtype=np.float64),
    )


def _effect(
    documents: frozenset[int],
    anchor: frozenset[int],
    scored: Sequence[ScoredCandidate],
    sets: Sequence[frozenset[int]],
) -> float:
    if documents == anchor:
        return 0.0
    both = [
        one
        for one, own in zip(scored, sets, strict=True)
        if documents | anchor <= own and one.candidate.baseline_name is not None
    ]
    return float(np.mean([merit(one, documents) - merit(one, anchor) for one in both])) if both else 0.0


def merit(scored: ScoredCandidate, documents: frozenset[int] | None = None) -> float:
    """ln(NLL + 0.001), over those of `documents` where given: what the surrogate models. Lower is better.

    NLL spans three orders of magnitude over the space, and what matters is ratios among the best.
    """
    chosen = [score for score in scored.scores if documents is None or score.index in documents]
    nll = sum(score.nats for score in chosen) / sum(score.tokens for score in chosen)
    return math.log(max(nll, 0.0) + _EASE)


class Surrogate:
    """A Gaussian process on merits: Matern 5/2 with a length scale per axis, noise variance v / documents.

    Length scales, amplitude and v maximise the marginal likelihood (Rasmussen and Williams 2006, eq. 2.30), v under a
    log-normal prior.
    """

    @_one_thread
    def __init__(self, observations: Observations) -> None:
        self._points = observations.points
        self._centre = float(observations.merits.mean())
        self._unit = float(observations.merits.std()) or 1.0
        self._values = (observations.merits - self._centre) / self._unit
        one_each = 1.0 / observations.documents / self._unit**2
        fits = {variance: self._fitted(variance * one_each) for variance in _DOCUMENT_VARIANCES}
        likely = {
            v: fit.log_marginal_likelihood_value_ - (math.log(v) / _PRIOR_DEVIATION) ** 2 / 2.0
            for v, fit in fits.items()
        }
        chosen = max(likely, key=lambda variance: likely[variance])
        self._noise, self._process = chosen * one_each, fits[chosen]

    def _fitted(self, noise: NDArray[np.float64]) -> GaussianProcessRegressor:
        """With the length scales and the amplitude that are likeliest.

        As scikit-learn does it, without its warning where a length scale ends at its bound: that an axis has no effect
        is no news, and a filter of warnings would be the whole process's, which may run several searches.
        """
        axes = self._points.shape[1]
        kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern(np.full(axes, 0.5), _LENGTH_SCALES, nu=2.5)
        begun = self._with_kernel(kernel, noise)

        def cost(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            likelihood, gradient = begun.log_marginal_likelihood(theta, eval_gradient=True, clone_kernel=False)
            return -likelihood, -gradient

        best = minimize(cost, kernel.theta, jac=True, method="L-BFGS-B", bounds=kernel.bounds)
        return self._with_kernel(kernel.clone_with_theta(best.x), noise)

    def _with_kernel(self, kernel: Kernel, noise: NDArray[np.float64]) -> GaussianProcessRegressor:
        return GaussianProcessRegressor(kernel, alpha=noise, optimizer=None).fit(self._points, self._values)

    @_one_thread
    def merits(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Posterior mean of the merit at `points` (m, axes), on the anchor's documents: (m,)."""
        found: NDArray[np.float64] = self._process.predict(points) * self._unit + self._centre
        return found

    @_one_thread
    def propose(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
        """The `count` points (count, axes) to score next, and the gain expected of the first.

        Each maximises the expected improvement (Jones et al. 1998, eq. 15) of the merit over the best posterior mean
        among the scored points, over random points and points around the best ones. After each, the process is told
        its own prediction there (Ginsbourger et al. 2010, "kriging believer"), so that a batch spreads. The gain is a
        difference of merits: 0.01 is one percent of NLL.
        """
        found: list[NDArray[np.float64]] = []
        first_gain = 0.0
        process, points, values, noise = self._process, self._points, self._values, self._noise
        best = points[np.argsort(process.predict(points), kind="stable")[:_CENTRES]]
        for position in range(count):
            tried = _tried(best, rng)
            gains = _expected_improvement(process, tried, incumbent=float(process.predict(points).min()))
            chosen = tried[int(np.argmax(gains))]
            if position == 0:
                first_gain = float(gains.max()) * self._unit
            found.append(chosen)
            values = np.append(values, process.predict(chosen[None]))
            points, noise = np.vstack([points, chosen]), np.append(noise, noise.min())
            process = GaussianProcessRegressor(self._process.kernel_, alpha=noise, optimizer=None).fit(points, values)
        return np.array(found), first_gain


def _tried(centres: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    axes = centres.shape[1]
    everywhere = qmc.Sobol(axes, rng=rng).random(_GLOBAL_POINTS)
    around = [np.clip(centre + rng.normal(0.0, _SPREAD, (_LOCAL_POINTS, axes)), 0.0, 1.0) for centre in centres]
    return np.vstack([everywhere, *around])


def _expected_improvement(
    process: GaussianProcessRegressor, points: NDArray[np.float64], *, incumbent: float
) -> NDArray[np.float64]:
    mean, deviation = process.predict(points, return_std=True)
    deviation = np.maximum(deviation, 1e-9)
    z = (incumbent - mean) / deviation
    improvement: NDArray[np.float64] = deviation * (z * norm.cdf(z) + norm.pdf(z))
    return improvement
