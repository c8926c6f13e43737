"""Adapter-only training: small output, frozen weights, and a merged checkpoint that is what was trained."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from evaluation.models.source import ModelSource
from finetune import job
from finetune.adapters import merge_adapter
from finetune.config import FinetuneSettings
from finetune.errors import InvalidAdapter, OutputNotEmpty
from finetune.job import run_finetune
from finetune.language_model import load_model
from finetune.rotary import RotarySwitch
from ropewalk.errors import FactorsDoNotFit
from ropewalk.factors.factor_file import FactorFile
from tests.helpers.tiny_llama import ORIGINAL_LENGTH, TARGET_LENGTH

pytest.importorskip("peft")

SETTINGS = FinetuneSettings(steps=4, warmup_steps=1, long_documents_per_step=1, lora_rank=4, learning_rate=0.1)


@pytest.fixture(scope="module")
def trained(
    tiny_source: ModelSource, factor_file: FactorFile, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    """(the adapter directory, the trained model in memory)"""
    output = tmp_path_factory.mktemp("lora") / "adapter"
    models = []

    def keep(*args: Any, **kwargs: Any) -> Any:
        models.append(load_model(*args, **kwargs))
        return models[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "load_model", keep)
        run_finetune(tiny_source, factor_file, SETTINGS, output, lambda progress: None)
    return output, models[0]


def test_the_output_holds_the_adapter_only(
    trained: tuple[Path, Any], tiny_source: ModelSource, factor_file: FactorFile
) -> None:
    adapter, model = trained
    assert not (adapter / "model.safetensors").exists()
    assert not (adapter / "config.json").exists()  # nobody takes it for a whole model
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        assert all("lora_" in name for name in file.keys())  # noqa: SIM118
    assert FactorFile.from_json((adapter / "factors.json").read_text()) == factor_file
    card = (adapter / "README.md").read_text()
    assert "LoRA adapters of rank 4" in card
    assert "ropewalk merge" in card
    base = load_file(tiny_source.path / "model.safetensors")
    frozen = dict(model.named_parameters())
    assert torch.equal(
        frozen["model.layers.0.self_attn.q_proj.base_layer.weight"], base["model.layers.0.self_attn.q_proj.weight"]
    )


def test_the_merged_checkpoint_gives_the_logits_of_the_adapter(
    trained: tuple[Path, Any], tiny_source: ModelSource, factor_file: FactorFile, tmp_path: Path
) -> None:
    adapter, model = trained
    assert merge_adapter(adapter, tmp_path / "merged") == factor_file
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    switch = RotarySwitch(
        model,
        rope=factor_file.rope,
        scaling=factor_file.scaling,
    )
    ids = torch.randint(0, 400, (1, TARGET_LENGTH), generator=torch.Generator().manual_seed(0))
    base = AutoModelForCausalLM.from_pretrained(tiny_source.path, dtype=torch.float32)
    for length in (TARGET_LENGTH, ORIGINAL_LENGTH):
        with torch.no_grad(), switch.window("long" if length > ORIGINAL_LENGTH else "short"):
            expected = model(input_ids=ids[:, :length]).logits
            torch.testing.assert_close(merged(input_ids=ids[:, :length]).logits, expected, atol=1e-4, rtol=1e-5)
            assert (base(input_ids=ids[:, :length]).logits - expected).abs().max() > 0.1  # it did train
    switch.close()
    assert merged.config.rope_parameters["rope_type"] == "longrope"
    assert "ropewalk merge" not in (tmp_path / "merged" / "README.md").read_text()


def test_a_directory_that_is_no_adapter_of_this_model_is_refused(
    trained: tuple[Path, Any], tiny_source: ModelSource, tmp_path: Path
) -> None:
    adapter, _ = trained
    with pytest.raises(InvalidAdapter, match=r"must hold adapter_config\.json"):
        merge_adapter(tiny_source.path, tmp_path / "out")
    with pytest.raises(FactorsDoNotFit):
        merge_adapter(adapter, tmp_path / "out", model="pocket")
    with pytest.raises(OutputNotEmpty):
        merge_adapter(adapter, adapter)
    assert not (tmp_path / "out").exists()


def test_an_interrupted_adapter_training_needs_the_same_rank(tiny_source: ModelSource, factor_file: FactorFile) -> None:
    from finetune.training_state import recipe_sha256

    other = dataclasses.replace(SETTINGS, lora_rank=8)
    digests = {recipe_sha256(tiny_source, factor_file, chosen, text_sha256="") for chosen in (SETTINGS, other)}
    assert len(digests) == 2
