"""Hypothesis strategies shared by the tests of this room."""

from __future__ import annotations

import importlib.util

import pytest
from hypothesis import strategies as st

from ropewalk.rope.config import RopeConfig

ropes = st.builds(
    RopeConfig,
    rope_theta=st.sampled_from([10.0, 1000.0, 10_000.0, 500_000.0, 1e6]) | st.floats(1.5, 1e8),
    rotary_dim=st.integers(1, 64).map(lambda pairs: 2 * pairs),
    original_max_position_embeddings=st.integers(8, 131_072),
)
scales = st.sampled_from([1.0, 2.0, 4.0, 16.0, 64.0]) | st.floats(1.0, 100.0)


def target_length(rope: RopeConfig, scale: float) -> int:
    """The whole number of tokens nearest to `scale` times the original length."""
    return max(round(rope.original_max_position_embeddings * scale), rope.original_max_position_embeddings)


NEEDS_CMAES = pytest.mark.skipif(importlib.util.find_spec("cmaes") is None, reason="cmaes is not installed")
