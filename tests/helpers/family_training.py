"""A tiny model trained for two steps by the fine-tuning job's own code, and loaded again by plain transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from evaluation.architecture.skeleton import auto_class
from evaluation.models.source import ModelSource
from finetune import job
from finetune.config import FinetuneSettings
from finetune.job import run_finetune
from finetune.language_model import load_model
from finetune.rotary import RotarySwitch
from ropewalk.factors.exports.hf import switch_length
from ropewalk.factors.factor_file import FactorFile
from ropewalk.models.rotary import rescaled_parts

STEPS: dict[str, Any] = {"steps": 2, "warmup_steps": 1, "long_documents_per_step": 1, "short_sequences_per_step": 1}
SETTINGS = FinetuneSettings(**STEPS)
_TOLERANCE = 1e-4  # nats per token: angles far out are good to some 1e-4 rad in float32


def check_trained(source: ModelSource, file: FactorFile, output: Path, patch: pytest.MonkeyPatch) -> None:
    """Train to `output`, and compare frequencies and logits of what is in memory and what loads, in both windows."""
    trained: list[Any] = []

    def keep(path: Path, *, dtype: torch.dtype | None) -> Any:
        trained.append(load_model(path, dtype=dtype))
        return trained[0]

    patch.setattr(job, "load_model", keep)
    run_finetune(source, file, SETTINGS, output, lambda progress: None)
    switch = RotarySwitch(trained[0], rope=file.rope, scaling=file.scaling, switch_length=switch_length(file))
    for length in (file.target_length, switch_length(file), 20):
        loaded = load_plainly(
            output
        )  # anew: where ropes differ by layer type, transformers 5.19 fails after a long pass
        with switch.window("long" if length > switch_length(file) else "short"):
            expected, actual = (nll(model, length) for model in (trained[0], loaded))
            ours, theirs = (rescaled_parts(model)[0].inv_freq for model in (trained[0], loaded))
            torch.testing.assert_close(
                theirs, ours, rtol=1e-5, atol=1e-20
            )  # pairs that do not turn may have a last trace
        assert actual == pytest.approx(expected, abs=_TOLERANCE)
    with switch.window("short"):
        assert abs(nll(load_model(source.path), 20) - nll(trained[0], 20)) > 1e-6  # it did train


def load_plainly(directory: Path) -> Any:
    """As anyone would, without a word about positions."""
    config = transformers.AutoConfig.from_pretrained(directory)
    return auto_class(config).from_pretrained(directory, config=config, dtype=torch.float32).eval()


@torch.no_grad()
def nll(model: Any, length: int) -> float:
    """Nats per token of the same random tokens."""
    ids = torch.randint(1, 1000, (1, length), generator=torch.Generator().manual_seed(0))
    found = model(input_ids=ids, use_cache=False).logits[0, :-1].double()
    return float(torch.nn.functional.cross_entropy(found, ids[0, 1:]))
