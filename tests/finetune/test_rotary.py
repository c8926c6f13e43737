"""One rotary window at a time, with exactly the frequencies that the maths give."""

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM

from evaluation.models.source import ModelSource
from finetune.errors import MixedWindow, ModelNotTrainable
from finetune.rotary import RotarySwitch
from ropewalk.errors import InvalidRescaleFactors
from ropewalk.models.rotary import rescaled_parts
from ropewalk.rope.config import RopeConfig, compute_inv_freq
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from tests.helpers.tiny_llama import ORIGINAL_LENGTH

FACTORS = RescaleFactors((1.0, 1.2, 1.5, 2.0, 2.2, 2.5, 2.6, 3.0))


def _switch(model: nn.Module, source: ModelSource, attention_factor: float = 1.25) -> RotarySwitch:
    return RotarySwitch(
        model,
        rope=source.rope,
        scaling=Scaling(FACTORS, attention_factor),
    )


def _ids(length: int) -> torch.Tensor:
    return torch.arange(length)[None] % 400


def test_each_window_has_its_frequencies_and_both_have_the_attention_factor(
    tiny_model: LlamaForCausalLM, tiny_source: ModelSource
) -> None:
    (part,) = rescaled_parts(tiny_model)
    own = part.inv_freq.clone()
    switch = _switch(tiny_model, tiny_source)
    with switch.window("short"):
        assert torch.equal(part.inv_freq, torch.from_numpy(compute_inv_freq(tiny_source.rope)).float())
        assert part.attention_scaling == 1.25
    with switch.window("long"):
        assert torch.equal(part.inv_freq, torch.from_numpy(compute_inv_freq(tiny_source.rope, FACTORS)).float())
        assert part.attention_scaling == 1.25
    switch.close()
    assert torch.equal(part.inv_freq, own)
    assert part.attention_scaling == 1.0


def test_the_short_window_is_the_original_model_when_the_attention_factor_is_one(
    tiny_model: LlamaForCausalLM, tiny_source: ModelSource
) -> None:
    ids = _ids(ORIGINAL_LENGTH)
    with torch.no_grad():
        expected = tiny_model(input_ids=ids).logits
        switch = _switch(tiny_model, tiny_source, attention_factor=1.0)
        with switch.window("long"):
            tiny_model(input_ids=_ids(ORIGINAL_LENGTH + 1))
        with switch.window("short"):
            actual = tiny_model(input_ids=ids).logits
    # transformers' frequencies come from float32, ours from float64: what the last bit is worth depends on the CPU.
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("window", "length", "allowed"),
    [
        ("short", ORIGINAL_LENGTH, True),
        ("short", ORIGINAL_LENGTH + 1, False),
        ("long", ORIGINAL_LENGTH, False),
        ("long", ORIGINAL_LENGTH + 1, True),
        (None, ORIGINAL_LENGTH, False),
    ],
)
def test_a_forward_pass_must_agree_with_the_window(
    tiny_model: LlamaForCausalLM, tiny_source: ModelSource, window: str | None, length: int, allowed: bool
) -> None:
    switch = _switch(tiny_model, tiny_source)

    def forward() -> None:
        with torch.no_grad():
            if window is None:
                tiny_model(input_ids=_ids(length))
            else:
                with switch.window("short" if window == "short" else "long"):
                    tiny_model(input_ids=_ids(length))

    if allowed:
        forward()
    else:
        with pytest.raises(MixedWindow, match="original length 128"):
            forward()


def test_a_batch_of_a_short_and_a_long_row_is_long_for_both(
    tiny_model: LlamaForCausalLM, tiny_source: ModelSource
) -> None:
    """The largest position decides for all rows, so the short window refuses the whole batch."""
    ids = torch.cat([_ids(200), _ids(200)])
    positions = torch.stack([torch.arange(200), torch.arange(200) % 100])
    switch = _switch(tiny_model, tiny_source)
    with pytest.raises(MixedWindow, match="long window"), switch.window("short"):
        tiny_model(input_ids=ids, position_ids=positions)


def test_windows_do_not_nest(tiny_model: LlamaForCausalLM, tiny_source: ModelSource) -> None:
    switch = _switch(tiny_model, tiny_source)
    with pytest.raises(MixedWindow, match="must be left"), switch.window("short"), switch.window("long"):
        pass
    with switch.window("long"):
        pass  # usable again after the refusal


def test_models_without_a_fitting_rotary_table_are_refused(
    tiny_model: LlamaForCausalLM, tiny_source: ModelSource
) -> None:
    with pytest.raises(ModelNotTrainable, match="8 pairs, but Linear has"):
        _switch(nn.Linear(2, 2), tiny_source)
    wide = RopeConfig(rope_theta=1000.0, rotary_dim=32, original_max_position_embeddings=ORIGINAL_LENGTH)
    with pytest.raises(ModelNotTrainable, match=r"16 pairs, but LlamaForCausalLM has \[8\]"):
        RotarySwitch(
            tiny_model,
            rope=wide,
            scaling=Scaling.identity(16),
        )
    with pytest.raises(InvalidRescaleFactors):
        RotarySwitch(
            tiny_model,
            rope=tiny_source.rope,
            scaling=Scaling.identity(7),
        )
