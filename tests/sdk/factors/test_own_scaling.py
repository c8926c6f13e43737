"""Factors over a model that is scaled already, and what exports say of a config that is not plain."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.errors import FactorsDoNotFit, InvalidFactorFile, UnsupportedRope
from ropewalk.factors.exports.registry import export
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.factors.fitting import check_rope
from ropewalk.rope.config import RopeConfig, compute_inv_freq, pair_with_periods, wavelengths
from ropewalk.rope.critical_pair import theoretical_critical_pair
from ropewalk.rope.published import CarriedKeys, ConfigPlace, PairFactors, PublishedScaling
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.baselines import BASELINE_NAMES, baseline

PAIRS = 8
PLAIN = RopeConfig(rope_theta=10_000.0, rotary_dim=2 * PAIRS, original_max_position_embeddings=512)
YARN = replace(
    PLAIN,
    published=PublishedScaling(
        rope_type="yarn", factors=PairFactors((1.0, 1.0, 1.3, 2.0, 4.0, 4.0, 4.0, 4.0)), attention_factor=1.14
    ),
)
PLACE = ConfigPlace(
    section="text_config",
    layer_type="full_attention",
    carried=CarriedKeys.of({"mrope_section": [2, 3, 3]}),
    others=CarriedKeys.of({"sliding_attention": {"rope_theta": 1e4, "rope_type": "default"}}),
    clears_scaling=True,
    head_dim=16,
)
own_factors = st.lists(st.floats(0.01, 100.0), min_size=PAIRS, max_size=PAIRS)
found_factors = st.lists(st.floats(1.0, 64.0), min_size=PAIRS, max_size=PAIRS).map(sorted)


def file_of(rope: RopeConfig, scaling: Scaling, target_length: int = 2048) -> FactorFile:
    return FactorFile.of(rope, scaling, model=ModelIdentity.of(rope, name="m"), target_length=target_length)


@pytest.mark.slow
@given(own=own_factors, found=found_factors, attention=st.floats(0.5, 4.0), published_attention=st.floats(0.5, 2.0))
def test_a_file_gives_back_what_it_was_made_of(
    own: list[float], found: list[float], attention: float, published_attention: float
) -> None:
    scaled = PublishedScaling(rope_type="llama3", factors=PairFactors(tuple(own)), attention_factor=published_attention)
    rope, scaling = replace(PLAIN, published=scaled), Scaling(RescaleFactors(tuple(found)), attention)
    file = FactorFile.from_json(file_of(rope, scaling).to_json())
    np.testing.assert_allclose(file.scaling.factors.values, found, rtol=1e-11)
    assert file.scaling.attention_factor == pytest.approx(attention)
    np.testing.assert_allclose(
        compute_inv_freq(file.rope, file.scaling.factors), compute_inv_freq(rope, scaling.factors), rtol=1e-11
    )
    check_rope(file, rope)


def test_only_what_format_1_cannot_say_is_format_2() -> None:
    scaling = baseline("ntk", PLAIN, 2048).scaling
    own = replace(YARN, published=PublishedScaling(rope_type="linear", factors=PairFactors((4.0,) * PAIRS)))
    formats = [json.loads(file_of(rope, scaling).to_json())["format"] for rope in (PLAIN, own, YARN)]
    assert formats == ["ropewalk.factors/1", "ropewalk.factors/1", "ropewalk.factors/2"]


def test_a_file_for_another_scaling_does_not_fit() -> None:
    file = file_of(YARN, baseline("ntk", YARN, 2048).scaling)
    with pytest.raises(FactorsDoNotFit, match=r"own scaling, 1 at pair 4, but the factor file says 4"):
        check_rope(file, PLAIN)
    assert YARN.published is not None
    louder = replace(YARN, published=replace(YARN.published, attention_factor=1.0))
    with pytest.raises(FactorsDoNotFit, match=r"attention factor that the model comes with must be 1, .* 1\.14"):
        check_rope(file, louder)
    typed = replace(YARN, place=ConfigPlace(layer_type="full_attention"))
    with pytest.raises(FactorsDoNotFit, match="layers that are rescaled must be the model's, full_attention"):
        check_rope(file, typed)


def test_the_formulas_go_by_the_wavelengths_that_the_model_has() -> None:
    """Stretched four times over four times the length, everything is where it was."""
    stretched = replace(
        PLAIN,
        original_max_position_embeddings=2048,
        published=PublishedScaling(rope_type="linear", factors=PairFactors((4.0,) * PAIRS)),
    )
    assert theoretical_critical_pair(stretched) == theoretical_critical_pair(PLAIN)
    for periods in (0.01, 1.0, 10.0, 1e6):
        assert pair_with_periods(stretched, periods) == pytest.approx(pair_with_periods(PLAIN, periods))
    for name in BASELINE_NAMES:
        over = baseline(name, stretched, 8192).scaling.factors.values
        np.testing.assert_allclose(over, baseline(name, PLAIN, 2048).scaling.factors.values, rtol=1e-9)
    np.testing.assert_allclose(wavelengths(stretched), 4 * wavelengths(PLAIN))


@pytest.mark.parametrize("values", [(), (0.0,), (-1.0,), (float("inf"),), (float("nan"),)])
def test_a_scaling_that_no_model_can_have(values: tuple[float, ...]) -> None:
    with pytest.raises(UnsupportedRope):
        PairFactors(values)


def test_one_factor_per_pair() -> None:
    with pytest.raises(UnsupportedRope, match=r"one factor per pair .*= 8.*but got 3"):
        replace(PLAIN, published=PublishedScaling(rope_type="linear", factors=PairFactors((4.0,) * 3)))


def test_hf_nests_and_repeats_what_the_arithmetic_needs() -> None:
    file = file_of(replace(YARN, place=PLACE), baseline("ntk", YARN, 2048).scaling)
    assert FactorFile.from_json(file.to_json()) == file
    (section, fragment), *_ = json.loads(export(file, "hf")).items()
    assert section == "text_config"
    assert (fragment["head_dim"], fragment["rope_scaling"]) == (16, None)
    assert fragment["rope_parameters"]["sliding_attention"] == {"rope_theta": 1e4, "rope_type": "default"}
    full = fragment["rope_parameters"]["full_attention"]
    assert full["short_factor"] == list(file.short_factor.values)
    assert full["mrope_section"] == [2, 3, 3]
    assert full["attention_factor"] == pytest.approx(1.14)


def test_hf_long_has_the_long_factors_at_every_length() -> None:
    file = file_of(YARN, Scaling(baseline("ntk", YARN, 2048).scaling.factors, 1.1))
    fragment = json.loads(export(file, "hf-long"))
    parameters = fragment["rope_parameters"]
    assert parameters["short_factor"] == parameters["long_factor"] == list(file.long_factor.values)
    assert fragment["original_max_position_embeddings"] == fragment["max_position_embeddings"] == 2048
    assert parameters["attention_factor"] == pytest.approx(1.14 * 1.1)
    scaled = replace(YARN, place=ConfigPlace(switch_length=512))
    with pytest.raises(InvalidFactorFile, match="attention reads it too"):
        export(file_of(scaled, file.scaling), "hf-long")


def test_a_table_with_pairs_that_do_not_turn_is_written_whole() -> None:
    wide = replace(PLAIN, place=ConfigPlace(table_pairs=2 * PAIRS))
    scaling = baseline("pi", wide, 2048).scaling
    factors = np.array(json.loads(export(file_of(wide, scaling), "hf"))["rope_parameters"]["long_factor"])
    table = 1.0 / (factors * wide.rope_theta ** (2.0 * np.arange(2 * PAIRS) / (4 * PAIRS)))
    np.testing.assert_allclose(table[:PAIRS], compute_inv_freq(wide, scaling.factors), rtol=1e-12)
    assert np.all(table[PAIRS:] < 1e-20)


def test_what_no_config_can_hold_is_refused_with_the_reason() -> None:
    file = file_of(replace(PLAIN, place=ConfigPlace(hf_refusal="its class has no place for them")), YARN_SCALING)
    with pytest.raises(InvalidFactorFile, match="its class has no place for them"):
        export(file, "hf")


YARN_SCALING = baseline("yarn", PLAIN, 2048).scaling
