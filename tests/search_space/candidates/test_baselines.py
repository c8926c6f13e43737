from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.errors import InvalidTargetLength
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.critical_pair import theoretical_critical_pair
from search_space.candidates.baselines import (
    BASELINE_NAMES,
    baseline,
    baselines,
    ntk_below,
    own_attention_factor,
    yarn_ramp,
)
from search_space.errors import InvalidStrategy
from tests.helpers.strategy_cases import ropes, scales, target_length

POCKET = RopeConfig(rope_theta=1000.0, rotary_dim=32, original_max_position_embeddings=256)
LLAMA3 = RopeConfig(rope_theta=500_000.0, rotary_dim=128, original_max_position_embeddings=8192)


@pytest.mark.slow
@given(ropes, scales, st.data())
def test_every_baseline_keeps_every_constraint(rope: RopeConfig, scale: float, data: st.DataObject) -> None:
    # RescaleFactors itself refuses what is not finite, not sorted or below 1.
    pair = data.draw(st.none() | st.integers(0, rope.num_pairs - 1))
    found = baselines(rope, target_length(rope, scale), critical_pair=pair)
    assert [candidate.origin for candidate in found] == [f"baseline:{name}" for name in BASELINE_NAMES]
    for candidate in found:
        candidate.scaling.factors.check_fits(rope.num_pairs)
        assert candidate.scaling.attention_factor == 1.0
        assert candidate.genes == ()


@given(ropes, scales)
def test_only_cope_exceeds_the_scale(rope: RopeConfig, scale: float) -> None:
    length = target_length(rope, scale)
    for candidate in baselines(rope, length):
        if candidate.origin != "baseline:cope":
            assert candidate.scaling.factors.values[-1] <= length / rope.original_max_position_embeddings * (1 + 1e-12)


def test_none_and_pi() -> None:
    assert set(baseline("none", POCKET, 1024).scaling.factors.values) == {1.0}
    assert set(baseline("pi", POCKET, 1024).scaling.factors.values) == {4.0}


def test_ntk_is_the_base_change() -> None:
    changed = POCKET.rope_theta * 4.0 ** (32 / 30)
    i = np.arange(16)
    expected = (changed / POCKET.rope_theta) ** (2 * i / 32)
    np.testing.assert_allclose(baseline("ntk", POCKET, 1024).scaling.factors.as_array(), expected, rtol=1e-12)


def test_ntk_critical_bends_at_the_pair() -> None:
    for pair in (0, 1, 5, 9, 15):
        values = baseline("ntk_critical", POCKET, 1024, critical_pair=pair).scaling.factors.values
        assert values[pair:] == (4.0,) * (16 - pair)
        assert values[:pair] == pytest.approx([4.0 ** (i / pair) for i in range(pair)])
    assert baseline("ntk_critical", POCKET, 1024).critical_pair == theoretical_critical_pair(POCKET) == 9


def test_golden_vector_of_phi_4_mini() -> None:
    """The factors below the critical pair in the published long_factor: 32.03^(i/31)."""
    values = ntk_below(31, (32.03, 32.1, 32.13))
    assert len(values) == 34
    assert values[:3] == pytest.approx((1.0, 1.118320672, 1.250641126), abs=5e-10)
    assert values[30:] == pytest.approx((28.64115884, 32.03, 32.1, 32.13), abs=5e-9)


def test_golden_vector_of_llama3() -> None:
    """The LLaMA3-8B factors of the authors' search: 21.81^(i/33)."""
    values = ntk_below(33, (21.81, 21.87, 21.88))
    assert values[:33] == pytest.approx([math.exp(math.log(21.81) * i / 33) for i in range(33)], rel=1e-12)
    # The same as another base: pair 33 of base' turns 21.81 times slower.
    base = (21.81 * 500_000.0 ** (66 / 128)) ** (128 / 66)
    assert values[20] == pytest.approx((base / 500_000.0) ** (40 / 128), rel=1e-12)


def test_yarn_ramp_of_llama3() -> None:
    assert yarn_ramp(LLAMA3) == (18, 35)


def test_yarn_critical_moves_only_the_upper_end() -> None:
    values = baseline("yarn_critical", LLAMA3, 131_072, critical_pair=30).scaling.factors.values
    assert values[:19] == (1.0,) * 19
    assert values[19] > 1.0
    assert values[29] < values[30] == pytest.approx(16.0)
    assert (
        baseline("yarn_critical", LLAMA3, 131_072, critical_pair=35).scaling.factors
        == baseline("yarn", LLAMA3, 131_072).scaling.factors
    )
    # An end below the ramp's start leaves a step.
    step = baseline("yarn_critical", LLAMA3, 131_072, critical_pair=10).scaling.factors.values
    assert step == pytest.approx((1.0,) * 11 + (16.0,) * 53)


def test_mrrope_pro_by_its_sum() -> None:
    low, high = yarn_ramp(LLAMA3)
    width = high - low
    eps = {j: 2 * (1 + j - low) / ((1 + width) * width) for j in range(low, high)}
    assert sum(eps.values()) == pytest.approx(1.0)
    expected = [16.0 ** sum(value for j, value in eps.items() if j < i) for i in range(64)]
    values = baseline("mrrope_pro", LLAMA3, 131_072).scaling.factors.values
    assert values == pytest.approx(expected, rel=1e-12)
    assert values[low] == 1.0
    assert values[high] == pytest.approx(16.0)


def test_cope_tapers_the_pairs_from_the_critical_one() -> None:
    values = baseline("cope", POCKET, 1024).scaling.factors.values
    assert values[:10] == (1.0,) * 10
    assert values[12] == pytest.approx(2.0)  # half of the taper
    assert values[15] == 1e6
    assert values == baseline("cope", POCKET, 4096).scaling.factors.values


def test_at_the_original_length_nothing_is_scaled() -> None:
    for name in BASELINE_NAMES:
        if name != "cope":
            assert baseline(name, POCKET, 256).scaling.factors.values == pytest.approx((1.0,) * 16), name


def test_own_attention_factors() -> None:
    own = {name: own_attention_factor(name, POCKET, 1024) for name in BASELINE_NAMES}
    yarn = 0.1 * math.log(4) + 1
    assert own == {**dict.fromkeys(BASELINE_NAMES, 1.0), "yarn": yarn, "yarn_critical": yarn}


def test_bad_input() -> None:
    with pytest.raises(InvalidStrategy, match=r"one of none, pi, ntk.*but got 'dynamic'"):
        baseline("dynamic", POCKET, 1024)
    with pytest.raises(InvalidStrategy, match="but got 'dynamic'"):
        own_attention_factor("dynamic", POCKET, 1024)
    with pytest.raises(InvalidTargetLength, match="target_length=128"):
        baseline("pi", POCKET, 128)
    for pair in (-1, 16):
        with pytest.raises(InvalidStrategy, match=rf"\[0, 16\), but got critical_pair={pair}"):
            baseline("yarn", POCKET, 1024, critical_pair=pair)
