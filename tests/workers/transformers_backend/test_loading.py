"""How far a model is loaded, as transformers goes through its tensors."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers

from evaluation.models.loading import heard_by
from evaluation.models.source import resolve_model
from workers.transformers_backend.scorer import load_model


def test_every_tensor_is_told_of_to_who_listens(tiny_model: Path) -> None:
    source, heard = resolve_model(str(tiny_model)), list[float]()
    with heard_by(heard.append):
        model = load_model(source, dtype=torch.float32, device=torch.device("cpu"), target_length=1024)
    assert len(heard) > len(list(model.parameters())) / 2, "transformers has another name for its bar"
    assert heard == sorted(heard)
    assert (heard[0], heard[-1]) == (0.0, 1.0)
    assert transformers.utils.logging.set_tqdm_hook(None) is None, "a hook was left"
    load_model(source, dtype=torch.float32, device=torch.device("cpu"), target_length=1024)
    assert heard[-1] == 1.0
