"""Packed documents do not see each other, and a packed batch gives what its documents give alone."""

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from finetune.data import MicroBatch, TrainingDocument, stack
from finetune.masks import block_diagonal_causal_mask
from finetune.training import attention_mask

CPU = torch.device("cpu")


def _documents(lengths: tuple[int, ...], seed: int = 0) -> list[TrainingDocument]:
    rng = np.random.default_rng(seed)
    return [
        TrainingDocument(token_ids=rng.integers(0, 400, length), weights=np.ones(length, dtype=np.float32))
        for length in lengths
    ]


def _logits(model: LlamaForCausalLM, batch: MicroBatch, *, masked: bool = True) -> torch.Tensor:
    causal = torch.zeros_like(torch.from_numpy(batch.segment_ids))
    mask = attention_mask(batch, CPU) if masked else block_diagonal_causal_mask(causal, torch.float32)
    with torch.no_grad():
        output = model(
            input_ids=torch.from_numpy(batch.token_ids),
            position_ids=torch.from_numpy(batch.position_ids),
            attention_mask=mask,
            use_cache=False,
        )
    logits: torch.Tensor = output.logits
    return logits


def test_the_mask_allows_exactly_the_earlier_tokens_of_the_same_document() -> None:
    segment_ids = torch.tensor([[0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 2, 2]])
    mask = block_diagonal_causal_mask(segment_ids, torch.float32)
    assert mask.shape == (2, 1, 6, 6)
    for row in range(2):
        for query in range(6):
            for key in range(6):
                allowed = key <= query and segment_ids[row, query] == segment_ids[row, key]
                assert mask[row, 0, query, key].item() == (0.0 if allowed else torch.finfo(torch.float32).min)


def test_a_packed_batch_gives_the_logits_of_its_documents_alone(tiny_model: LlamaForCausalLM) -> None:
    rows = [_documents((40, 128, 7, 1), seed=1), _documents((128, 100), seed=2)]  # padded to 240
    packed = _logits(tiny_model, stack("short", rows, 240))
    for row, documents in enumerate(rows):
        start = 0
        for document in documents:
            end = start + len(document.token_ids)
            with torch.no_grad():
                alone = tiny_model(input_ids=torch.from_numpy(document.token_ids)[None], use_cache=False).logits[0]
            torch.testing.assert_close(packed[row, start:end], alone, atol=1e-5, rtol=1e-5)
            start = end


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_no_token_of_one_document_changes_the_logits_of_another(tiny_model: LlamaForCausalLM, changed: int) -> None:
    lengths = (30, 50, 40)
    documents = _documents(lengths)
    before = stack("short", [documents], 128)
    others = list(documents)
    others[changed] = _documents(lengths, seed=9)[changed]
    after = stack("short", [others], 128)
    difference = (_logits(tiny_model, before) - _logits(tiny_model, after)).abs().amax(dim=-1)[0]
    same_document = torch.from_numpy(before.segment_ids[0] == changed)
    assert difference[~same_document].max() == 0.0
    assert difference[same_document].max() > 0.1
    # The same comparison does see a leak when there is one: with a plain causal mask, later documents change.
    leaked = (
        (_logits(tiny_model, before, masked=False) - _logits(tiny_model, after, masked=False)).abs().amax(dim=-1)[0]
    )
    assert changed == 2 or leaked[torch.from_numpy(before.segment_ids[0] > changed)].max() > 1e-3


def test_a_row_of_one_document_needs_no_mask() -> None:
    assert attention_mask(stack("long", [_documents((64,)), _documents((64,))], 64), CPU) is None
    assert attention_mask(stack("long", [_documents((63,))], 64), CPU) is not None  # padded
