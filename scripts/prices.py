"""What extending models of several sizes costs, computed as `ropewalk plan` does, as the table of README.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from evaluation.models.source import resolve_model
from finetune.config import FinetuneSettings
from finetune.optimizers import OPTIMIZERS
from finetune.recipes import settings_of
from scripts.imports import ROOT
from scripts.tables import Table
from search_space.candidates.cost import Spent
from service.plans.model import PlannedModel
from service.plans.training import training_work
from service.plans.work import Device, Work
from service.specs.plan import PlanOptions

TARGET_LENGTH = 131_072
PASSES = 1000
"""Of a search: what the rows count, because a search's own number depends on its strategy and its scores."""
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "one_gpu": {"recipe": "one_gpu"},
    "one_gpu, optimizer=adamw_8bit": {"recipe": "one_gpu", "optimizer": "adamw_8bit"},
    "one_gpu, optimizer=adafactor": {"recipe": "one_gpu", "optimizer": "adafactor"},
    "one_gpu, long_documents_per_step=8, long_every=4": {
        "recipe": "one_gpu",
        "long_documents_per_step": 8,
        "long_every": 4,
    },
    "one_gpu, lora_rank=16": {"recipe": "one_gpu", "lora_rank": 16},
    "paper": {"recipe": "paper"},
}

_COMMON = {
    "model_type": "llama",
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
    "max_position_embeddings": 8192,
    "rope_theta": 500_000.0,
    "torch_dtype": "bfloat16",
}
MODELS: Mapping[str, Mapping[str, object]] = {
    "1B": {
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "intermediate_size": 8192,
        "tie_word_embeddings": True,
    },
    "8B": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 14_336},
    "70B": {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "intermediate_size": 28_672},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """The GPUs of one row."""

    name: str
    gpu: str
    count: int


SETTINGS = (
    Setting(name="24 GB card (RTX 4090)", gpu="RTX 4090", count=1),
    Setting(name="H100", gpu="H100", count=1),
    Setting(name="8 x H100", gpu="H100", count=8),
)


def rows(models: Iterable[str] = tuple(MODELS)) -> Iterator[str]:
    """A line for each model and setting; `-` where it does not fit, with the memory that it would take."""
    with TemporaryDirectory() as directory:
        for name in models:
            path = Path(directory) / name
            path.mkdir()
            (path / "config.json").write_text(json.dumps({**_COMMON, **MODELS[name]}))
            model = PlannedModel.of(resolve_model(str(path), weights=False))
            for setting in SETTINGS:
                yield _row(name, model, setting)


def _row(name: str, model: PlannedModel, setting: Setting) -> str:
    device = Device.of(PlanOptions(gpu=setting.gpu, gpus=setting.count))
    original = model.source.rope.original_max_position_embeddings
    cells = [
        *(_cell(_passes(model, tokens, device), device) for tokens in (TARGET_LENGTH, original)),
        *(_cell(_training(model, given, setting.count), device) for given in RECIPES.values()),
    ]
    return f"| {name} | {setting.name} | {' | '.join(cells)} |"


def _passes(model: PlannedModel, tokens: int, device: Device) -> Work:
    """Of a search on all GPUs: a model on each, or on as few together as hold it."""
    assert device.count is not None
    ranks = [2**power for power in range(device.count.bit_length())]
    held = next((n for n in ranks if device.holds(model.scoring_bytes(tokens, ranks=n))), ranks[-1])
    spent, flops = Spent(passes=PASSES, tokens=PASSES * tokens), PASSES * model.outline.flops.of(tokens)
    return Work(
        name="search",
        bound="exactly",
        most=spent,
        flops=flops,
        expected=spent,
        expected_flops=flops,
        longest=tokens,
        memory=model.scoring_bytes(tokens, ranks=held),
        devices=device.count,
    )


def _training(model: PlannedModel, given: Mapping[str, Any], count: int) -> Work:
    """By the recipe; on several GPUs each has a share of the rows, and of the weights where those can be dealt out."""
    whole = given.get("lora_rank") or not OPTIMIZERS[given.get("optimizer", "adamw")].shards
    sharding = "none" if whole else "fsdp"
    spread = {"workers": count, "sharding": sharding} if count > 1 else {}
    return training_work(model, _settings(model, {**given, **spread}), TARGET_LENGTH)


def _settings(model: PlannedModel, given: Mapping[str, Any]) -> FinetuneSettings:
    fields = dict(given)
    return settings_of(fields, fields.pop("recipe"), model.source, target_length=TARGET_LENGTH)


def _cell(work: Work, device: Device) -> str:
    row = device.row(work)
    hours = f"{row.hours:,.0f} h" if row.hours >= 10 else f"{row.hours:.2g} h"
    return f"{hours if row.fits else '-'}, {row.memory_gib:,.0f} GiB"


TABLE = Table(
    page=ROOT / "README.md",
    name="prices",
    head=f"| model | GPUs | {PASSES:,} full passes | {PASSES:,} skipped ones | `{'` | `'.join(RECIPES)}` |",
    lines=rows,
    script="prices",
)


def main() -> int:
    """Write the table; with --check write nothing, and return 1 where it would change."""
    old = TABLE.page.read_text()
    new = TABLE.written(old)
    if "--check" not in sys.argv:
        TABLE.page.write_text(new)
    return int("--check" in sys.argv and new != old)


if __name__ == "__main__":
    sys.exit(main())
