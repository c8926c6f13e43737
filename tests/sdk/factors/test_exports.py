from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import pytest

from ropewalk.errors import InvalidFactorFile
from ropewalk.factors.exports.registry import EXPORTS, export
from ropewalk.factors.factor_file import FactorFile
from ropewalk.rope.config import compute_inv_freq
from tests.helpers.factor_files import FULL


def test_hf_is_the_safe_config_fragment() -> None:
    file = replace(FULL, attention_factor=1.07, target_length=1000)
    assert json.loads(export(file, "hf")) == {
        "max_position_embeddings": 1000,
        "original_max_position_embeddings": 256,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 1000.0,
            "factor": 1000 / 256,
            "original_max_position_embeddings": 256,
            "short_factor": [1.0, 1.0, 1.0, 1.0],
            "long_factor": [1.0, 2.0, 4.0, 4.5],
            "attention_factor": 1.07,
            "short_mscale": 1.07,
            "long_mscale": 1.07,
            "ropewalk_short_mscale": 1.0,
        },
    }


def test_vllm_is_one_line_with_the_same_content() -> None:
    text = export(FULL, "vllm")
    assert text.count("\n") == 1
    assert json.loads(text) == json.loads(export(FULL, "hf"))


def test_a_partial_rotary_factor_is_carried() -> None:
    file = replace(FULL, model=replace(FULL.model, partial_rotary_factor=0.75))
    for format_name in ("hf", "vllm"):
        assert json.loads(export(file, format_name))["rope_parameters"]["partial_rotary_factor"] == 0.75


def test_mlx_is_what_its_models_read() -> None:
    file = replace(FULL, model=replace(FULL.model, partial_rotary_factor=0.75))
    assert json.loads(export(file, "mlx")) == {
        "max_position_embeddings": 256,
        "original_max_position_embeddings": 256,
        "rope_theta": 1000.0,
        "partial_rotary_factor": 0.75,
        "rope_scaling": {
            "type": "longrope",
            "rope_type": "longrope",
            "original_max_position_embeddings": 256,
            "short_factor": [1.0, 1.0, 1.0, 1.0],
            "long_factor": [1.0, 2.0, 4.0, 4.5],
        },
    }


@pytest.mark.parametrize("length", [64, 256, 8192])
@pytest.mark.parametrize("attention_factor", [1.0, 1.0001, 1.07, 1.118, 1.5, 2.0])
def test_mlx_comes_to_the_attention_factor_that_was_scored(length: int, attention_factor: float) -> None:
    """The scale that mlx-lm's SuScaledRoPE computes from the exported lengths."""
    file = replace(
        FULL, original_max_position_embeddings=length, target_length=4 * length, attention_factor=attention_factor
    )
    config = json.loads(export(file, "mlx"))
    ratio = config["max_position_embeddings"] / config["rope_scaling"]["original_max_position_embeddings"]
    applied = math.sqrt(1 + math.log(ratio) / math.log(length)) if ratio > 1 else 1.0
    assert applied == pytest.approx(attention_factor, abs=1e-3 if length == 64 else 2e-4)


def test_mlx_does_not_scale_below_one() -> None:
    config = json.loads(export(replace(FULL, attention_factor=0.9), "mlx"))
    assert config["max_position_embeddings"] == 256


def test_mlx_refuses_what_no_length_leads_to() -> None:
    with pytest.raises(InvalidFactorFile, match=r"small enough for mlx-lm, but got 90\.0"):
        export(replace(FULL, attention_factor=90.0), "mlx")


def test_json_reads_back() -> None:
    assert FactorFile.from_json(export(FULL, "json")) == FULL


def test_csv_has_a_row_per_pair() -> None:
    rows = list(csv.DictReader(io.StringIO(export(FULL, "csv"))))
    assert list(rows[0]) == ["pair", "long_factor", "inv_freq", "wavelength"]
    assert [int(row["pair"]) for row in rows] == [0, 1, 2, 3]
    assert tuple(float(row["long_factor"]) for row in rows) == FULL.long_factor.values
    inv_freq = compute_inv_freq(FULL.rope, FULL.scaling.factors).tolist()
    assert [float(row["inv_freq"]) for row in rows] == inv_freq
    assert [float(row["wavelength"]) for row in rows] == [2 * math.pi / frequency for frequency in inv_freq]


@pytest.mark.parametrize("name", ["gguf", "yaml", "", "JSON"])
def test_other_formats_are_refused_with_the_ones_that_exist(name: str) -> None:
    with pytest.raises(InvalidFactorFile, match=f"one of json, hf, hf-long, vllm, mlx, csv(, gguf)?, but got '{name}'"):
        export(FULL, name)


def test_every_format_ends_with_a_line_break() -> None:
    for name, row in EXPORTS.items():
        if row.write is not None:
            assert export(FULL, name).endswith("\n")
