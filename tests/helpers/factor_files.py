"""Factor files that tests of several rooms read."""

from __future__ import annotations

from ropewalk.factors.factor_file import BaselineResult, FactorFile, ModelIdentity, SearchSummary, ValidationSummary
from ropewalk.rope.published import PairFactors

FULL = FactorFile(
    model=ModelIdentity(name="pocket", rope_theta=1000.0, rotary_dim=8, sha256="ab" * 32),
    original_max_position_embeddings=256,
    target_length=1024,
    critical_pair=2,
    attention_factor=1.0,
    short_factor=PairFactors((1.0,) * 4),
    long_factor=PairFactors((1.0, 2.0, 4.0, 4.5)),
    search=SearchSummary(id="srch_1", trial=7, nll=0.125, documents=10, document_passes=640),
    validation=ValidationSummary(
        nll=0.25,
        exact_match=0.9,
        documents=40,
        best_baseline="yarn",
        best_baseline_nll=0.3,
        delta_ci95=(-0.08, -0.02),
    ),
    baselines=(
        BaselineResult(name="pi", nll=3.0, exact_match=0.0),
        BaselineResult(name="yarn", nll=0.3, exact_match=0.8),
    ),
    seed=0,
    ropewalk_version="0.1.0",
)
