"""What windows mean: told with the numbers, and as the model's own code has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from evaluation.models.source import ModelSource, resolve_model
from evaluation.models.windows import check_reach, window_warnings
from ropewalk.errors import UnsupportedRope

WINDOW, LAYERS, LENGTH = 8, 3, 64
REACH = LAYERS * (WINDOW - 1) + 1
SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
EVERYWHERE = {"model_type": "mistral", "sliding_window": WINDOW}
ALTERNATING = {"model_type": "gemma2", "sliding_window": WINDOW, "head_dim": 16}
ROTARY_ONLY_IN_WINDOWS = {"model_type": "cohere2", "sliding_window": WINDOW, "sliding_window_pattern": 3}


def _source(folder: Path, config: dict[str, object]) -> ModelSource:
    stated = {"vocab_size": 64, "num_hidden_layers": LAYERS, "max_position_embeddings": LENGTH, **SIZES, **config}
    (folder / "config.json").write_text(json.dumps(stated))
    return resolve_model(str(folder), weights=False)


def test_nothing_beyond_the_reach_changes_an_answer() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {**SIZES, "vocab_size": 64, "num_hidden_layers": LAYERS}
    model: Any = MistralForCausalLM(MistralConfig(sliding_window=WINDOW, **sizes))  # type: ignore[no-untyped-call]
    model.eval()
    ids = torch.randint(0, 64, (1, LENGTH))

    def last_logits(changed: int) -> torch.Tensor:
        other = ids.clone()
        other[0, changed] = (ids[0, changed] + 1) % 64
        with torch.no_grad():
            logits: torch.Tensor = model(input_ids=other).logits[0, -1]
        return logits

    with torch.no_grad():
        expected = model(input_ids=ids).logits[0, -1]
    assert torch.equal(last_logits(LENGTH - 1 - REACH), expected)
    assert not torch.equal(last_logits(LENGTH - REACH), expected)


def test_a_length_beyond_the_reach_is_refused_with_the_numbers(tmp_path: Path) -> None:
    source = _source(tmp_path, EVERYWHERE)
    check_reach(source, REACH)
    with pytest.raises(UnsupportedRope, match=f"at most the {REACH} tokens .* {LAYERS} layers .* of {WINDOW} "):
        check_reach(source, REACH + 1)


@pytest.mark.parametrize("config", [ALTERNATING, ROTARY_ONLY_IN_WINDOWS, {"model_type": "llama"}])
def test_a_layer_that_sees_everything_reaches_everything(tmp_path: Path, config: dict[str, object]) -> None:
    check_reach(_source(tmp_path, config), 10**6)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (EVERYWHERE, f"see at most {WINDOW} tokens back, with an original length of {LENGTH}: "),
        (ROTARY_ONLY_IN_WINDOWS, "; layers that see farther have no positions to rescale"),
    ],
)
def test_rotary_layers_that_do_not_see_far_are_told(tmp_path: Path, config: dict[str, object], words: str) -> None:
    (warning,) = window_warnings(_source(tmp_path, config))
    assert words in warning


@pytest.mark.parametrize("config", [ALTERNATING, {"model_type": "llama"}])
def test_of_others_there_is_nothing_to_tell(tmp_path: Path, config: dict[str, object]) -> None:
    assert window_warnings(_source(tmp_path, config)) == ()
