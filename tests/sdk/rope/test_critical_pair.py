from __future__ import annotations

import pytest
from hypothesis import given

from ropewalk.rope.config import RopeConfig, wavelengths
from ropewalk.rope.critical_pair import ten_period_critical_pair, theoretical_critical_pair
from tests.helpers.strategy_cases import ropes


@pytest.mark.parametrize(
    ("name", "length", "num_pairs", "base", "ten_period", "theoretical"),
    [
        ("Phi3-mini", 2048, 48, 1e4, 19, 31),
        ("LLaMA3-8B", 8192, 64, 5e5, 24, 35),
        ("Phi-4-mini", 4096, 48, 1e4, 22, 34),
        ("Qwen2.5-0.5B", 32_768, 32, 1e6, 15, 20),
        ("SmolLM2-135M", 8192, 32, 1e5, 14, 20),
        ("pocket", 256, 16, 1e3, 4, 9),
    ],
)
def test_published_values(
    name: str, length: int, num_pairs: int, base: float, ten_period: int, theoretical: int
) -> None:
    rope = RopeConfig(rope_theta=base, rotary_dim=2 * num_pairs, original_max_position_embeddings=length)
    assert (ten_period_critical_pair(rope), theoretical_critical_pair(rope)) == (ten_period, theoretical), name


@given(ropes)
def test_pairs_exist_and_are_ordered(rope: RopeConfig) -> None:
    assert 0 <= ten_period_critical_pair(rope) <= theoretical_critical_pair(rope) < rope.num_pairs


@given(ropes)
def test_the_theoretical_pair_is_the_first_that_does_not_pass_one_period(rope: RopeConfig) -> None:
    pair = theoretical_critical_pair(rope)
    periods = rope.original_max_position_embeddings / wavelengths(rope)
    if pair < rope.num_pairs - 1:  # else it may be clamped
        assert periods[pair] <= 1 + 1e-6
    if pair > 0:
        assert periods[pair - 1] > 1 - 1e-6


def test_clamped_where_every_pair_turns_often_or_seldom() -> None:
    often = RopeConfig(rope_theta=10.0, rotary_dim=8, original_max_position_embeddings=100_000)
    assert (ten_period_critical_pair(often), theoretical_critical_pair(often)) == (3, 3)
    seldom = RopeConfig(rope_theta=10_000.0, rotary_dim=8, original_max_position_embeddings=4)
    assert (ten_period_critical_pair(seldom), theoretical_critical_pair(seldom)) == (0, 0)
