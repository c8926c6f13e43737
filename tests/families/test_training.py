"""Two steps of fine-tuning for one family of each class, and what plain transformers makes of the checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.errors import ModelNotTrainable
from finetune.job import run_finetune
from finetune.language_model import LanguageModelLoss, load_model
from tests.helpers.families import family, family_factors, save_family
from tests.helpers.family_training import SETTINGS, check_trained

#: By class: plain, each scaling of its own, layer types, sinks, latent attention, experts, nested, a state
#: beside it, and those whose class is unlike all others.
TRAINED = [
    "llama2-7b",
    "llama3.1-8b",
    "qwen3-8b-yarn",
    "phi-3-mini-128k",
    "gemma-3-1b",
    "gemma-4-text",
    "gpt-oss-20b",
    "deepseek-v3",
    "mixtral-8x7b",
    "dbrx",
    "llama4-scout-text",
    "qwen3.5",
    "mistral-small-3.1",
    "seed-oss-36b",
]
#: Whose documents are read one by one: sinks, chunks, and states that run on from one document into the next.
ONE_BY_ONE = {"falcon-7b", "llama4-scout-text", "qwen3.5"}


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_checkpoint_loads_as_it_was_trained(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save_family(family(name), tmp_path / "model")
    check_trained(source, family_factors(family(name), source), tmp_path / "out", monkeypatch)


@pytest.mark.parametrize("name", [*TRAINED, "falcon-7b"])
def test_documents_are_packed_where_that_changes_nothing(name: str, tmp_path: Path) -> None:
    save_family(family(name), tmp_path / "model")
    loss = LanguageModelLoss(load_model(tmp_path / "model"))
    loss.check()
    assert loss.packs == (name not in ONE_BY_ONE)


def test_a_family_without_a_config_for_factors_is_refused_before_the_first_step(tmp_path: Path) -> None:
    one = family("recurrentgemma-2b")
    source = save_family(one, tmp_path / "model")
    steps: list[object] = []
    with pytest.raises(ModelNotTrainable, match=r"would not: .*max_position_embeddings"):
        run_finetune(source, family_factors(one, source), SETTINGS, tmp_path / "out", steps.append)
    assert steps == []
    assert not (tmp_path / "out").exists()
