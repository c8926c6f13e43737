"""The contract of generation, by a real engine, against transformers' own switch at the original length."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers

from tests.helpers.generator_conformance import ROPE, GeneratorConformance, prompt
from tests.helpers.samples import ORIGINAL_LENGTH, TARGET_LENGTH, VOCABULARY
from tests.helpers.vllm_models import save_phi3, vllm_settings
from workers.base import ScorerSettings
from workers.errors import ScorerClosed
from workers.factory import make_generator
from workers.generator import Generator
from workers.vllm_backend import process as vllm_process


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_phi3(tmp_path_factory.mktemp("phi3"), attention_factor=1.0)


@pytest.fixture(scope="module")
def settings(model: Path) -> ScorerSettings:
    return vllm_settings(model=str(model), original_length=ORIGINAL_LENGTH, target_length=TARGET_LENGTH)


@pytest.fixture(scope="module")
def reference(model: Path) -> transformers.Phi3ForCausalLM:
    loaded: transformers.Phi3ForCausalLM = transformers.Phi3ForCausalLM.from_pretrained(model)
    return loaded


@pytest.fixture(scope="module")
def shared(settings: ScorerSettings, loaded: tuple[str, ...]) -> Iterator[Generator]:
    """One for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vllm_process, "_CHILD", loaded)
        opened = make_generator(settings)
    yield opened
    opened.close()


class TestVllmGenerator(GeneratorConformance):
    @pytest.fixture
    def generator(self, shared: Generator) -> Generator:
        return shared

    test_closed_means_closed = None  # type: ignore[assignment]


@pytest.mark.usefixtures("forked_engines")
def test_an_end_token_ends_the_text_and_is_no_part_of_it(settings: ScorerSettings, tmp_path: Path) -> None:
    plain = make_generator(dataclasses.replace(settings, backend="transformers"))
    written = plain.generate(ROPE, prompt(60), 12)
    plain.close()
    path = shutil.copytree(settings.model, tmp_path / "ended")
    ending = {"eos_token_id": [written[7], VOCABULARY - 1]}
    (path / "generation_config.json").write_text(json.dumps(ending), encoding="utf-8")
    generator = make_generator(dataclasses.replace(settings, model=str(path)))
    assert generator.generate(ROPE, prompt(60), 12) == written[: written.index(written[7])]
    generator.close()
    generator.close()
    with pytest.raises(ScorerClosed):
        generator.generate(ROPE, prompt(4), 1)
