"""The transformers generator, how a lost vLLM engine shows, and the pool that runs generators."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import pytest
import transformers

from evaluation.documents.windows import WindowScore
from tests.helpers.generator_conformance import ROPE, GeneratorConformance, prompt, window
from tests.helpers.processes import below
from tests.helpers.samples import STRETCHED, TARGET_LENGTH, VOCABULARY, llama_config, longrope_config, save_llama
from workers.base import ScorerSettings
from workers.errors import ScorerUnavailable, ScoringFailed, WorkerLost
from workers.factory import check_generator, make_generator
from workers.generator import Generated, GenerationTask, ReadingTask, ServingTask
from workers.pool.generation import GenerationPool
from workers.pool.room import Room
from workers.vllm_backend import process as vllm_process
from workers.vllm_backend.generator import VllmGenerator


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> transformers.LlamaForCausalLM:
    path = save_llama(tmp_path_factory.mktemp("reference"), longrope_config(STRETCHED, 1.0))
    model: transformers.LlamaForCausalLM = transformers.LlamaForCausalLM.from_pretrained(path)
    return model


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


def test_what_cannot_generate_is_refused() -> None:
    with pytest.raises(ScorerUnavailable, match="transformers or vllm, but got backend=analytic"):
        check_generator("analytic", tensor_parallel=1)
    with pytest.raises(ScorerUnavailable, match="tensor_parallel must be 1 with backend=transformers"):
        check_generator("transformers", tensor_parallel=2)


class TestVllmEngine:
    """What the parent does with an engine's replies, from a stand-in; tests/vllm has the real one."""

    @pytest.fixture
    def settings(self, transformers_settings: ScorerSettings) -> ScorerSettings:
        return dataclasses.replace(transformers_settings, backend="vllm")

    def test_an_engine_that_is_lost_is_started_again_and_asked_again(
        self, settings: ScorerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(vllm_process, "_CHILD", ("tests.helpers.engine_stand_in", "breaks"))
        generator = VllmGenerator(settings)
        monkeypatch.setattr(vllm_process, "_CHILD", ("tests.helpers.engine_stand_in", "scores"))
        assert generator.generate(ROPE, prompt(60), 9) == (1,) * 9
        assert generator.read(ROPE, window(40)).correct == 20
        generator.close()

    def test_no_number_is_no_answer(self, settings: ScorerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(vllm_process, "_CHILD", ("tests.helpers.engine_stand_in", "no_number"))
        generator = VllmGenerator(settings)
        with pytest.raises(ScoringFailed, match="finite logits"):
            generator.generate(ROPE, prompt(60), 9)
        generator.close()


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


def test_more_workers_than_the_cluster_holds_do_not_keep_tasks_waiting(
    ray_cluster: None, transformers_settings: ScorerSettings
) -> None:
    tasks = [GenerationTask(key=f"{n}", rope=ROPE, token_ids=prompt(8, n), max_new_tokens=1) for n in range(12)]
    seen: list[Room] = []
    with GenerationPool(transformers_settings, workers=1000) as pool:

        def check() -> None:
            seen.append(pool.room())
            if not pool.is_ready:
                assert seen[-1].placed <= seen[-1].most < 1000

        answered = [outcome.task_key for outcome in pool.run(tasks, check=check)]
        assert pool.is_ready
    assert sorted(answered, key=int) == [task.key for task in tasks]
    assert seen[-1].placed >= 1


def test_a_model_that_cannot_be_opened_ends_the_run(
    ray_cluster: None, transformers_settings: ScorerSettings, tmp_path: Path
) -> None:
    empty = save_llama(tmp_path / "empty")
    (empty / "model.safetensors").unlink()
    settings = dataclasses.replace(transformers_settings, model=str(empty))
    task = GenerationTask(key="0", rope=ROPE, token_ids=prompt(4), max_new_tokens=1)
    with GenerationPool(settings, workers=1) as pool, pytest.raises(ScorerUnavailable):
        list(pool.run([task]))


def test_a_cluster_that_has_died_ends_the_run(
    ray_cluster: None, transformers_settings: ScorerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.pool.generation.is_any_machine_alive", lambda: False)
    task = GenerationTask(key="0", rope=ROPE, token_ids=prompt(4), max_new_tokens=1)
    with (
        GenerationPool(transformers_settings, workers=1) as pool,
        pytest.raises(WorkerLost, match="must have a machine"),
    ):
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
    (process,) = below("ray::GenerationActor")
    return process.pid
