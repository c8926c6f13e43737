"""The contract of :class:`workers.generator.Generator` as tests, the transformers one, and the pool that runs it."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import transformers

from evaluation.served_rope import ServedRope
from evaluation.text_windows import TextWindow, WindowScore
from search_space.errors import InvalidRescaleFactors
from search_space.rescale_factors import RescaleFactors
from tests.workers.samples import (
    IDENTITY,
    ORIGINAL_LENGTH,
    STRETCHED,
    TARGET_LENGTH,
    VOCABULARY,
    llama_config,
    longrope_config,
    save_llama,
)
from workers.base import ScorerSettings
from workers.errors import DocumentTooLong, ScorerClosed, ScorerUnavailable, ScoringFailed
from workers.generation_pool import GenerationPool
from workers.generator import Generated, GenerationTask, Generator, ReadingTask, ServingTask
from workers.generator_factory import make_generator

ROPE = ServedRope(original_length=ORIGINAL_LENGTH, long_factor=STRETCHED, attention_factor=1.0)
PLAIN = ServedRope(original_length=ORIGINAL_LENGTH, long_factor=IDENTITY, attention_factor=1.0)


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(np.random.default_rng([seed, length]).integers(1, VOCABULARY, length).tolist())


def window(length: int, scored: int = 20) -> TextWindow:
    return TextWindow(id=f"text-{length}", token_ids=prompt(length), scored=scored)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> transformers.LlamaForCausalLM:
    """The same weights under a config by which transformers itself switches, at every forward pass."""
    path = save_llama(tmp_path_factory.mktemp("reference"), longrope_config(STRETCHED, 1.0))
    model: transformers.LlamaForCausalLM = transformers.LlamaForCausalLM.from_pretrained(path)
    return model


class GeneratorConformance:
    """Subclass, and provide the `settings` fixture."""

    @pytest.fixture
    def generator(self, settings: ScorerSettings) -> Iterator[Generator]:
        opened = make_generator(settings)
        yield opened
        opened.close()

    @pytest.mark.parametrize(
        "length", [1, ORIGINAL_LENGTH - 6, ORIGINAL_LENGTH, ORIGINAL_LENGTH + 1, 2 * ORIGINAL_LENGTH]
    )
    def test_tokens_are_those_of_no_cache(
        self, generator: Generator, reference: transformers.LlamaForCausalLM, length: int
    ) -> None:
        """Within L, across it, and past it: by the factors that the length of the moment asks for."""
        written = list(prompt(length))
        while len(written) < length + 12:
            with torch.no_grad():
                token = int(reference(torch.tensor([written]), use_cache=False).logits[0, -1].argmax())
            if token == reference.config.eos_token_id:
                break
            written.append(token)
        assert generator.generate(ROPE, prompt(length), 12) == tuple(written[length:])

    def test_a_text_is_read_with_the_factors_of_its_length(
        self, generator: Generator, reference: transformers.LlamaForCausalLM
    ) -> None:
        for length in (ORIGINAL_LENGTH, ORIGINAL_LENGTH + 1, TARGET_LENGTH):
            read = generator.read(ROPE, window(length))
            token_ids = torch.tensor([window(length).token_ids])
            with torch.no_grad():
                logits = reference(token_ids, use_cache=False).logits[0, -21:-1]
            nats = torch.nn.functional.cross_entropy(logits, token_ids[0, -20:], reduction="sum").item()
            assert read.nats == pytest.approx(nats, abs=2e-4)
            assert (read.tokens, read.window_id) == (20, f"text-{length}")
            assert read.correct == int((logits.argmax(-1) == token_ids[0, -20:]).sum())

    def test_calls_do_not_see_each_other(self, generator: Generator) -> None:
        first = generator.generate(ROPE, prompt(80), 8), generator.read(ROPE, window(80))
        other = generator.generate(PLAIN, prompt(80), 8), generator.read(PLAIN, window(80))
        assert (generator.generate(ROPE, prompt(80), 8), generator.read(ROPE, window(80))) == first
        assert other != first

    def test_within_the_original_length_the_long_factors_do_not_matter(self, generator: Generator) -> None:
        short = window(ORIGINAL_LENGTH)
        assert generator.read(ROPE, short) == generator.read(PLAIN, short)
        assert generator.generate(ROPE, prompt(20), 8) == generator.generate(PLAIN, prompt(20), 8)

    def test_the_attention_factor_matters_on_both_sides(self, generator: Generator) -> None:
        scaled = dataclasses.replace(ROPE, attention_factor=1.3)
        for length in (ORIGINAL_LENGTH, TARGET_LENGTH):
            assert abs(generator.read(ROPE, window(length)).nats - generator.read(scaled, window(length)).nats) > 1e-3

    def test_what_cannot_be_done_is_refused(self, generator: Generator) -> None:
        with pytest.raises(DocumentTooLong, match=str(TARGET_LENGTH)):
            generator.generate(ROPE, prompt(TARGET_LENGTH - 3), 4)
        with pytest.raises(DocumentTooLong):
            generator.read(ROPE, window(TARGET_LENGTH + 1))
        with pytest.raises(ScoringFailed):
            generator.generate(ROPE, (), 4)
        with pytest.raises(ScoringFailed):
            generator.generate(ROPE, prompt(4), 0)
        few = dataclasses.replace(ROPE, long_factor=RescaleFactors.identity(3))
        with pytest.raises(InvalidRescaleFactors):
            generator.generate(few, prompt(4), 1)
        with pytest.raises(ScoringFailed, match="attention_factor"):
            generator.read(dataclasses.replace(ROPE, attention_factor=0.0), window(30))

    def test_closed_means_closed(self, settings: ScorerSettings) -> None:
        generator = make_generator(settings)
        generator.close()
        generator.close()
        with pytest.raises(ScorerClosed):
            generator.generate(ROPE, prompt(4), 1)


class TestTransformers(GeneratorConformance):
    @pytest.fixture
    def settings(self, transformers_settings: ScorerSettings) -> ScorerSettings:
        return transformers_settings

    def test_an_end_token_ends_the_text(self, settings: ScorerSettings, tmp_path: Path) -> None:
        generator = make_generator(settings)
        written = generator.generate(ROPE, prompt(60), 12)
        generator.close()
        end = written[7]
        ended = save_llama(tmp_path / "ended", llama_config(eos_token_id=[end, VOCABULARY - 1]))
        generator = make_generator(dataclasses.replace(settings, model=str(ended)))
        assert generator.generate(ROPE, prompt(60), 12) == written[: written.index(end)]
        generator.close()

    def test_other_backends_are_refused(self, settings: ScorerSettings) -> None:
        for backend in ("vllm", "analytic"):
            with pytest.raises(ScorerUnavailable, match=f"got backend={backend}"):
                make_generator(dataclasses.replace(settings, backend=backend))
        with pytest.raises(ScorerUnavailable, match="tensor_parallel"):
            make_generator(dataclasses.replace(settings, tensor_parallel=2))


def test_a_pool_answers_as_a_generator_does(ray_cluster: None, transformers_settings: ScorerSettings) -> None:
    """Also when a worker dies on the way; what cannot be done is an outcome, not the end of the run."""
    tasks: list[ServingTask] = [
        *(GenerationTask(key=f"g{n}", rope=ROPE, token_ids=prompt(60, n), max_new_tokens=6) for n in range(3)),
        ReadingTask(key="r", rope=ROPE, window=window(100)),
        GenerationTask(key="long", rope=ROPE, token_ids=prompt(TARGET_LENGTH), max_new_tokens=1),
    ]
    answers: dict[str, Generated | WindowScore | None] = {}
    with GenerationPool(transformers_settings, workers=1) as pool:
        for outcome in pool.run(tasks):
            answers[outcome.task_key] = outcome.answer
            assert (outcome.error is None) == (outcome.answer is not None)
            if len(answers) == 1:
                os.kill(_worker_pid(), signal.SIGKILL)
    assert answers.pop("long", None) is None
    generator = make_generator(transformers_settings)
    assert answers.pop("r") == generator.read(ROPE, window(100))
    expected = {f"g{n}": Generated(token_ids=generator.generate(ROPE, prompt(60, n), 6)) for n in range(3)}
    assert answers == expected
    generator.close()


def test_a_model_that_cannot_be_opened_ends_the_run(
    ray_cluster: None, transformers_settings: ScorerSettings, tmp_path: Path
) -> None:
    empty = save_llama(tmp_path / "empty")
    (empty / "model.safetensors").unlink()
    settings = dataclasses.replace(transformers_settings, model=str(empty))
    task = GenerationTask(key="0", rope=ROPE, token_ids=prompt(4), max_new_tokens=1)
    with GenerationPool(settings, workers=1) as pool, pytest.raises(ScorerUnavailable):
        list(pool.run([task]))


def test_what_check_raises_ends_the_run(ray_cluster: None, transformers_settings: ScorerSettings) -> None:
    class Stop(Exception):
        pass

    def check() -> None:
        raise Stop

    task = GenerationTask(key="0", rope=ROPE, token_ids=prompt(4), max_new_tokens=1)
    with GenerationPool(transformers_settings, workers=1) as pool, pytest.raises(Stop):
        list(pool.run([task], check=check))


def _worker_pid() -> int:
    """The process of the only living generation actor."""
    below = psutil.Process().children(recursive=True)
    (pid,) = (process.pid for process in below if "ray::GenerationActor" in "".join(process.cmdline()))
    return pid
