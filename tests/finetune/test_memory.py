"""The estimate of a training's memory against what autograd keeps and what parameters take."""

import dataclasses
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, PreTrainedModel, Qwen3MoeConfig

from evaluation.architecture.attention import ATTENTION
from evaluation.models.source import ModelSource
from finetune.adapters import add_adapters, hold_frozen
from finetune.config import FinetuneSettings
from finetune.data import MicroBatch
from finetune.language_model import LanguageModelLoss, load_model
from finetune.memory import MemoryEstimate, ModelSize, estimate
from finetune.training import autocast

ROWS, TOKENS, VOCABULARY = 2, 128, 512
SETTINGS = FinetuneSettings(
    long_documents_per_step=0,
    skipped_rows_per_step=ROWS,
    short_sequences_per_step=ROWS,
    short_tokens=TOKENS,
    rows_per_pass=ROWS,
)
LORA = FinetuneSettings(lora_rank=4)


def _model(**fields: Any) -> PreTrainedModel:
    config = LlamaConfig(
        num_hidden_layers=3, num_attention_heads=4, vocab_size=VOCABULARY, tie_word_embeddings=True, **fields
    )
    model: PreTrainedModel = LlamaForCausalLM._from_config(  # type: ignore[no-untyped-call]
        config, attn_implementation=ATTENTION
    )
    return model


def _batch(*, vocabulary: int = VOCABULARY) -> MicroBatch:
    rng = np.random.default_rng(0)
    positions = np.sort(rng.choice(8 * TOKENS, size=TOKENS, replace=False))
    return MicroBatch(
        kind="skipped",
        token_ids=rng.integers(0, vocabulary, (ROWS, TOKENS)),
        position_ids=np.tile(positions, (ROWS, 1)),
        weights=np.ones((ROWS, TOKENS), dtype=np.float32),
        document_lengths=((TOKENS,),) * ROWS,
    )


def _estimate(size: ModelSize, dtype: torch.dtype, *, checkpointing: bool = False) -> MemoryEstimate:
    return estimate(
        size,
        SETTINGS,
        original_length=TOKENS,
        target_length=8 * TOKENS,
        number_bytes=dtype.itemsize,
        checkpointing=checkpointing,
    )


def _kept_bytes(model: PreTrainedModel, dtype: torch.dtype) -> int:
    """What autograd keeps of one pass for its backward pass, the weights not counted."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no other takes its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast(model.device, dtype):
        LanguageModelLoss(model)(_batch())
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        {"hidden_size": 128, "intermediate_size": 352, "num_key_value_heads": 4},
        {"hidden_size": 128, "intermediate_size": 448, "num_key_value_heads": 1},
        {"hidden_size": 64, "intermediate_size": 512, "num_key_value_heads": 2},
    ],
    ids=lambda shape: f"{shape['hidden_size']}-{shape['intermediate_size']}",
)
def test_activations_are_about_what_autograd_keeps(shape: dict[str, int], dtype: torch.dtype) -> None:
    model = _model(**shape)
    size = ModelSize.of(model)
    needed = _estimate(size, dtype)
    one_layer = ROWS * TOKENS * size.layer_bytes(dtype.itemsize)
    estimated = needed.activations - one_layer + needed.casts  # that layer is the backward pass's own
    kept = _kept_bytes(model, dtype)
    assert 0.75 * kept < estimated < 1.25 * kept, (estimated, kept)


def test_recomputed_activations_are_one_layers_and_the_states_between() -> None:
    size = dataclasses.replace(ModelSize.of(_model(hidden_size=128, intermediate_size=352)), layers=100)
    states = 100 * ROWS * TOKENS * 128 * 4
    layer = ROWS * TOKENS * size.layer_bytes(4)
    assert _estimate(size, torch.float32, checkpointing=True).activations == states + 2 * layer
    assert _estimate(size, torch.float32).activations == 101 * layer


def test_casts_of_the_weights_are_not_kept_where_activations_are_recomputed() -> None:
    model = _model(hidden_size=128, intermediate_size=352)
    loss, matrix = LanguageModelLoss(model), model.model.layers[0].mlp.up_proj.weight
    casts: list[weakref.ref[torch.Tensor]] = []

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            if func is torch.ops.aten._to_copy.default and args[0].shape == matrix.shape:
                casts.append(weakref.ref(found.untyped_storage()))
            return found

    def alive(*, recomputes: bool) -> int:
        casts.clear()
        with autocast(model.device, torch.bfloat16, recomputes=recomputes), Watch():  # type: ignore[no-untyped-call]
            loss(_batch())
            return sum(cast() is not None for cast in casts)

    model.gradient_checkpointing_enable({"use_reentrant": False})
    assert loss.recomputes
    assert alive(recomputes=False) > 0
    assert alive(recomputes=True) == 0
    size = ModelSize.of(model)
    assert _estimate(size, torch.bfloat16, checkpointing=True).casts < size.trained
    assert _estimate(size, torch.bfloat16).casts == 2 * size.trained


@pytest.mark.parametrize(
    ("config", "intermediate"),
    [
        (LlamaConfig(intermediate_size=352), 352),
        (MixtralConfig(intermediate_size=100, num_experts_per_tok=2), 200),
        (Qwen3MoeConfig(intermediate_size=999, moe_intermediate_size=70, num_experts_per_tok=8), 560),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_token_goes_through_all_its_experts(config: Any, intermediate: int) -> None:
    class Model(torch.nn.Module):
        pass

    model: Any = Model()
    model.config = config
    assert ModelSize.of(model).intermediate == intermediate


def test_frozen_matrices_in_the_type_of_the_pass_change_no_loss_and_no_gradient(tiny_source: ModelSource) -> None:
    pytest.importorskip("peft")
    found = []
    for held in (False, True):
        torch.manual_seed(0)
        model = load_model(tiny_source.path)
        add_adapters(model, LORA)
        torch.manual_seed(1)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)  # zeros hide the gradient of the other half
        if held:
            hold_frozen(model, torch.bfloat16)
        with autocast(model.device, torch.bfloat16):
            loss = LanguageModelLoss(model)(_batch(vocabulary=256))
        loss.backward()
        found.append((model, loss))
    (whole, loss), (short, same) = found
    assert torch.equal(loss, same)
    pairs = zip(whole.named_parameters(), short.parameters(), strict=True)
    gradients = [(name, one.grad, other.grad) for (name, one), other in pairs if one.requires_grad]
    assert len(gradients) == 28
    for name, one, other in gradients:
        assert one is not None, name
        assert other is not None, name
        assert torch.equal(one, other), name
    size = ModelSize.of(short)
    bytes_held = sum(weight.nbytes for weight in short.parameters())
    assert bytes_held < sum(weight.nbytes for weight in whole.parameters())
    assert size.weight_bytes(4) == 4 * size.weights
    assert bytes_held <= size.weight_bytes(2) <= bytes_held + size.vocabulary * size.hidden * 2  # tied: counted twice
