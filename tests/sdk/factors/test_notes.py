"""What is said beside an export: the numbers of the file at hand, and nothing where nothing is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ropewalk.factors.exports.registry import EXPORTS
from tests.helpers.factor_files import FULL

SCALED = replace(FULL, attention_factor=1.07)
OWN_RULE = "1.1180"  # sqrt(1 + ln 4 / ln 256)


def test_every_format_but_our_own_says_something() -> None:
    silent = [name for name in EXPORTS if not EXPORTS[name].notes(FULL)]
    assert silent == ["json"]


@pytest.mark.parametrize("name", EXPORTS)
def test_every_format_tells_of_an_original_length_below_what_the_model_serves(name: str) -> None:
    shorter = replace(FULL, model=replace(FULL.model, served_length=8192))
    first, *rest = EXPORTS[name].all_notes(shorter)
    assert first == (
        "original_length 256 is below the 8192 tokens that the model is published for: it is taken for a model of 256 "
        "tokens, past which long factors replace its own rotation; exports state a context of 1024 tokens, fewer than "
        "those 8192."
    )
    assert tuple(rest) == EXPORTS[name].notes(shorter) == EXPORTS[name].all_notes(FULL)
    longer = replace(FULL, model=replace(FULL.model, served_length=512))
    assert EXPORTS[name].all_notes(longer)[0].endswith("replace its own rotation."), "1024 tokens are more than it has"


@pytest.mark.parametrize("name", EXPORTS)
def test_a_note_is_one_line_of_ascii(name: str) -> None:
    """They travel as HTTP headers too."""
    for note in EXPORTS[name].notes(SCALED):
        assert note.isascii()
        assert note.isprintable()
        assert note.endswith(".")


@pytest.mark.parametrize("name", ["vllm", "mlx", "gguf"])
def test_both_attention_factors_are_told(name: str) -> None:
    text = " ".join(EXPORTS[name].notes(SCALED))
    assert "1.0700" in text
    assert OWN_RULE in text


def test_transformers_scales_short_inputs_only_where_there_is_a_scale() -> None:
    assert "within 256 tokens" not in " ".join(EXPORTS["hf"].notes(FULL))
    assert "applies attention_factor 1.0700 to inputs within 256 tokens" in " ".join(EXPORTS["hf"].notes(SCALED))


def test_vllm_ignores_the_short_factors_above_the_original_length() -> None:
    assert "--max-model-len above 256" in EXPORTS["vllm"].notes(FULL)[0]


def test_mlx_says_where_it_cannot_follow() -> None:
    assert "applies 1.0000, the nearest that it can." in EXPORTS["mlx"].notes(replace(FULL, attention_factor=0.9))[1]
    assert "applies 1.0000." in EXPORTS["mlx"].notes(FULL)[1]
    same_length = replace(FULL, target_length=256)
    assert "1.0000 for the target length 256" in EXPORTS["mlx"].notes(same_length)[1]
