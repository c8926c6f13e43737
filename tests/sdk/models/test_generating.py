"""An exported checkpoint across L: what transformers writes with a KV cache against what it writes without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from transformers import PreTrainedModel

from evaluation.documents.corpus import Corpus
from evaluation.models.source import load_tokenizer, resolve_model
from finetune.language_model import load_model
from finetune.output.checkpoint import write_checkpoint
from ropewalk.models.generating import generate
from tests.helpers.tiny_llama import make_factor_file

ORIGINAL, TARGET = 256, 1024
NEW_TOKENS = 14


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreTrainedModel]:
    """The pocket model with NTK factors, as any program loads it from the disk."""
    source = resolve_model("pocket")
    output = tmp_path_factory.mktemp("exported") / "model"
    file = make_factor_file(source, target_length=TARGET, name="ntk")
    write_checkpoint(load_model(source.path), source=source, file=file, model_card="", output=output)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_model(output)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def text(corpus: Corpus) -> torch.Tensor:
    tokenizer = load_tokenizer(resolve_model("pocket"))
    return torch.tensor([tokenizer.encode(corpus.split_text("validation")[:8000])])


def without_cache(model: PreTrainedModel, input_ids: torch.Tensor, new_tokens: int) -> torch.Tensor:
    for _ in range(new_tokens):
        with torch.no_grad():
            logits = model(input_ids=input_ids, use_cache=False).logits[0, -1]
        input_ids = torch.cat([input_ids, logits.argmax().view(1, 1)], dim=1)
    return input_ids


@pytest.mark.parametrize("prompt", [ORIGINAL - 8, ORIGINAL, ORIGINAL + 1, 100])
def test_tokens_across_the_switch_are_those_of_no_cache(
    exported: PreTrainedModel, text: torch.Tensor, prompt: int
) -> None:
    expected = without_cache(exported, text[:, :prompt], NEW_TOKENS)
    found = generate(exported, text[:, :prompt], max_new_tokens=NEW_TOKENS, do_sample=False)
    assert found.tolist() == expected.tolist()


def test_a_crossing_leaves_nothing_behind(exported: PreTrainedModel, text: torch.Tensor) -> None:
    """transformers writes the frequencies of the last pass into the model; the next text must not see them."""
    windows = (text[:, :ORIGINAL], text[:, : ORIGINAL + 64])
    with torch.no_grad():
        before = [exported(input_ids=window).logits for window in windows]
    for window, logits in zip(windows, before, strict=True):
        generate(exported, text[:, : ORIGINAL - 2], max_new_tokens=6, do_sample=False)
        with torch.no_grad():
            assert torch.equal(exported(input_ids=window).logits, logits)


def test_sampled_tokens_across_the_switch_are_those_of_no_cache(exported: PreTrainedModel, text: torch.Tensor) -> None:
    prompt = expected = text[:, : ORIGINAL - 8]
    torch.manual_seed(3)
    for _ in range(NEW_TOKENS):
        with torch.no_grad():
            logits = exported(input_ids=expected, use_cache=False).logits[0, -1]
        expected = torch.cat([expected, torch.multinomial(logits.softmax(dim=-1), 1)[None]], dim=1)
    torch.manual_seed(3)
    found = generate(exported, prompt, max_new_tokens=NEW_TOKENS, do_sample=True, top_k=0)
    assert found.tolist() == expected.tolist()


def test_what_a_model_card_shows_without_the_package(exported: PreTrainedModel, text: torch.Tensor) -> None:
    prompt, run = text[:, : ORIGINAL - 8], cast("Any", exported)
    short = run.generate(prompt, max_new_tokens=ORIGINAL + 1 - prompt.shape[1], do_sample=False)
    found = run.generate(short, max_new_tokens=5, do_sample=False)
    assert found.tolist() == generate(exported, prompt, max_new_tokens=14, do_sample=False).tolist()


def test_transformers_alone_goes_wrong_at_the_switch(exported: PreTrainedModel, text: torch.Tensor) -> None:
    """The reason for the helper: when this fails, transformers has learned to switch, and the helper can go."""
    run: Any = exported
    different = 0
    for start in range(0, 400, 100):
        prompt = text[:, start : start + ORIGINAL - 8]
        plain = run.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW_TOKENS, do_sample=False)
        different += plain.tolist() != generate(exported, prompt, max_new_tokens=NEW_TOKENS, do_sample=False).tolist()
    assert different > 0


def test_a_text_that_ends_before_the_switch_stays_ended(exported: PreTrainedModel, text: torch.Tensor) -> None:
    prompt = text[:, : ORIGINAL - 8]
    written = generate(exported, prompt, max_new_tokens=NEW_TOKENS, do_sample=False)
    for at in (3, 8, 9):  # before, on the last short pass, and after
        end = int(written[0, prompt.shape[1] + at])
        first = written[0, prompt.shape[1] :].tolist().index(end)
        found = generate(exported, prompt, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=end)
        assert found.tolist() == written[:, : prompt.shape[1] + first + 1].tolist()


def test_what_cannot_be_done_is_said(exported: PreTrainedModel, text: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="one row"):
        generate(exported, text[:, :8].repeat(2, 1), max_new_tokens=1)
    with pytest.raises(ValueError, match="past_key_values"):
        generate(exported, text[:, :8], max_new_tokens=1, past_key_values=None)
    plain = load_model(resolve_model("pocket").path)
    with pytest.raises(ValueError, match="longrope"):
        generate(plain, text[:, :8], max_new_tokens=1)
