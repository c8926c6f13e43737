from __future__ import annotations

import math

import pytest

from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.candidate import Candidate, Gene, ScoredCandidate
from search_space.errors import InvalidStrategy

FACTORS = RescaleFactors.identity(4)


@pytest.mark.parametrize(
    ("gene", "message"),
    [
        ({"value": 3.0, "low": 4.0, "high": 8.0}, "within its range"),
        ({"value": 9.0, "low": 4.0, "high": 8.0}, "within its range"),
        ({"value": math.nan, "low": 4.0, "high": 8.0}, "within its range"),
        ({"value": 4.5, "low": 4.0, "high": 8.0, "integer": True}, "must be whole"),
        ({"value": 4.005, "low": 4.0, "high": 8.0, "step": 0.01}, "on its grid"),
        ({"value": 4.01, "low": 4.0, "high": 8.005, "step": 0.01}, "on its grid"),
        ({"value": 4.0, "low": 4.0, "high": 8.0, "step": 0.0}, "step must be positive"),
        ({"value": 4.0, "low": 4.0, "high": 8.0, "step": math.nan}, "step must be positive"),
    ],
)
def test_bad_genes_are_refused(gene: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidStrategy, match=message):
        Gene(name="factor_09", **gene)  # type: ignore[arg-type]


def test_genes_on_a_decimal_grid() -> None:
    for hundredths in range(400, 801):
        Gene(name="factor_09", value=hundredths / 100, low=4.0, high=8.0, step=0.01)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"critical_pair": 4}, r"critical_pair must be a pair in \[0, 4\)"),
        ({"critical_pair": -1}, "critical_pair must be a pair"),
        ({"genes": (Gene(name="a", value=1, low=0, high=1), Gene(name="a", value=0, low=0, high=1))}, "unique"),
    ],
)
def test_bad_candidates_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidStrategy, match=message):
        Candidate(scaling=Scaling(FACTORS), **fields)  # type: ignore[arg-type]


def test_a_failed_candidate_has_an_infinite_nll_and_nan_is_refused() -> None:
    ScoredCandidate(trial=0, generation=0, candidate=Candidate(scaling=Scaling(FACTORS)), nll=math.inf)
    with pytest.raises(InvalidStrategy, match="got nan for trial 3"):
        ScoredCandidate(trial=3, generation=0, candidate=Candidate(scaling=Scaling(FACTORS)), nll=math.nan)
