"""The plugin, in engines that preempt, read in chunks and keep prefixes: against engines of one set of factors each."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ropewalk.errors import NotServed
from ropewalk.factors.exports.registry import export
from ropewalk.factors.factor_file import FactorFile
from ropewalk.rope.published import PairFactors
from tests.helpers.exporting import (
    LONG,
    ORIGINAL_LENGTH,
    SCALED,
    SHORT,
    TARGET_LENGTH,
    copy_of_pocket,
    documents,
    pocket_factors,
)
from tests.helpers.paths import POCKET
from tests.helpers.switched_engines import BLOCK, Asked, Engines, Told, switched_engines

PER_TOKEN = 1e-4  # nats
NEW = 40  # tokens that follow each prompt
PREEMPTING = {
    "max_model_len": TARGET_LENGTH,
    "max_num_batched_tokens": 128,  # fewer than most prompts have
    "num_gpu_blocks_override": 36,  # one long text, and little beside it
    "enable_prefix_caching": True,
}


def factors() -> FactorFile:
    """Over original RoPE, with an attention factor that is not its own."""
    file = pocket_factors(SCALED)
    long = (1.0 + 0.2 * pair for pair in range(len(file.long_factor)))
    return replace(file, short_factor=PairFactors((1.0,) * len(file.long_factor)), long_factor=PairFactors(tuple(long)))


def overrides() -> Any:
    return json.loads(export(factors(), "vllm"))


@dataclass(frozen=True)
class Read:
    """A prompt, what the engine with the plugin went on with, and what each of the other two says of all of it."""

    asked: Asked
    told: Told
    short: Told
    long: Told

    def expected(self, index: int) -> tuple[float, bool]:
        """Of the token there, which follows `index` others: its score, and whether it is the best."""
        of = self.short if index <= ORIGINAL_LENGTH and self.asked.extra is None else self.long
        return of.scores[index - 1], of.greedy[index - 1]


def asked() -> list[Asked]:
    short, long = ([list(one.token_ids) for one in documents(length)] for length in (SHORT, LONG))
    texts = [
        short[0][:100],
        long[0][: TARGET_LENGTH - NEW],
        long[0][: ORIGINAL_LENGTH - 6],  # grows past L, behind a long text with the same beginning
        short[1],
        long[1][: ORIGINAL_LENGTH + 1],
        long[1][:ORIGINAL_LENGTH],  # the second token is past L
        long[1][: ORIGINAL_LENGTH - 20],
        long[0][:200],
        long[1][: TARGET_LENGTH - NEW],
    ]
    by_hand = Asked(ids=short[0], new=20, extra={"ropewalk": {"switch": "long"}})
    return [*(Asked(ids=one, new=NEW) for one in texts), by_hand]


@dataclass(frozen=True)
class Served:
    """All of them, in one call."""

    reads: tuple[Read, ...]
    preemptions: int


@pytest.fixture(scope="module")
def served(engines: Engines) -> Served:
    ((told,), preemptions) = engines.run(PREEMPTING | {"hf_overrides": overrides()}, [asked()], switch=True)
    whole = [Asked(ids=one.ids + found.ids, scored=True) for one, found in zip(asked(), told, strict=True)]
    # A table of one row more: a text of L' tokens cannot be asked to go on.
    room = {"max_position_embeddings": TARGET_LENGTH + 1}
    plain = {"max_model_len": TARGET_LENGTH + 1, "max_num_batched_tokens": 2048}
    ((short,), _) = engines.run(plain | {"hf_overrides": room}, [whole], switch=False)
    ((long,), _) = engines.run(plain | {"hf_overrides": overrides() | room}, [whole], switch=False)
    reads = zip(asked(), told, short, long, strict=True)
    return Served(tuple(Read(*one) for one in reads), preemptions)


def test_mixed_requests_are_what_two_engines_would_say(served: Served) -> None:
    for one in served.reads:
        assert one.told.reason == "length"
        assert len(one.told.ids) == one.asked.new
        expected = [one.expected(len(one.asked.ids) + index) for index in range(one.asked.new)]
        assert one.told.logprobs == pytest.approx([score for score, _ in expected], abs=PER_TOKEN)
        assert all(greedy for _, greedy in expected)


def test_the_second_runner_reads_the_same(served: Served) -> None:
    """That of GPUs, its kernels interpreted."""
    chosen = [one for one in served.reads if len(one.asked.ids) in (100, ORIGINAL_LENGTH - 6, ORIGINAL_LENGTH + 1)]
    new = 10
    with switched_engines("v2_runner") as engines:
        batch = [replace(one.asked, new=new) for one in chosen]
        options = {"max_model_len": TARGET_LENGTH, "max_num_batched_tokens": 128, "hf_overrides": overrides()}
        ((found,), _) = engines.run(options, [batch], switch=True)
    assert len(found) == 3
    for one, told in zip(chosen, found, strict=True):
        assert told.ids == one.told.ids[:new]
        assert told.logprobs == pytest.approx(one.told.logprobs[:new], abs=PER_TOKEN)


def test_what_makes_that_hard_was_there(served: Served) -> None:
    lengths = [(len(one.asked.ids), len(one.asked.ids) + one.asked.new - 1) for one in served.reads]
    crossings = sum(prompt <= ORIGINAL_LENGTH < end for prompt, end in lengths)
    assert crossings >= 3
    assert served.preemptions > crossings, "KV blocks must run out"
    assert any(one.told.cached for one in served.reads)
    for one in served.reads:
        assert max(abs(a - b) for a, b in zip(one.short.scores, one.long.scores, strict=True)) > 100 * PER_TOKEN


def test_windows_share_no_blocks_and_a_switch_is_chosen_by_hand(engines: Engines) -> None:
    text = list(documents(SHORT)[0].token_ids)
    whole = (SHORT - 1) // BLOCK * BLOCK  # the last token is always read

    def one(**changes: Any) -> list[Asked]:
        return [replace(Asked(ids=text), **changes)]

    long = {"ropewalk": {"switch": "long"}}
    batches, _ = engines.run(
        {"max_model_len": TARGET_LENGTH, "hf_overrides": overrides(), "enable_prefix_caching": True},
        [
            one(),
            one(),
            one(extra=long),
            one(extra=long),
            one(extra={"ropewalk_switch": "auto"}),
            one(extra={"ropewalk_switch": "lnog"}),
            one(extra={"ropewalk_swich": "long"}),
            one(ids=text + text, extra={"ropewalk_switch": "short"}),
            one(new=NEW * 2, extra={"ropewalk_switch": "short"}),
        ],
        switch=True,
    )
    answers = [batch[0] for batch in batches]
    assert [answer.cached for answer in answers[:5]] == [0, whole, 0, whole, whole]
    assert [answer.error for answer in answers[5:8]] == [
        "ropewalk_switch must be one of auto, short, long, but got 'lnog'; did you mean 'long'?",
        "a request's key for Ropewalk must be ropewalk_switch, but got 'ropewalk_swich'",
        "a request with ropewalk_switch='short' must be within the original 256 tokens, but its prompt has 448",
    ]
    assert (len(answers[8].ids), answers[8].reason) == (ORIGINAL_LENGTH + 1 - SHORT, "length")


def test_a_model_without_factors_of_ropewalk_is_left_alone(engines: Engines, tmp_path: Path) -> None:
    worker = "vllm.v1.worker.cpu_worker.CPUWorker"
    untouched: dict[str, Any] = {"additional": {}, "scheduler": None, "worker": worker}
    assert engines.configure({"model": str(POCKET)}) == untouched
    foreign = overrides()
    del foreign["rope_parameters"]["ropewalk_short_mscale"]  # longrope that somebody else wrote
    options = {"model": str(POCKET), "hf_overrides": foreign, "max_model_len": TARGET_LENGTH}
    assert engines.configure(options) == untouched
    written = {"model": str(copy_of_pocket(tmp_path / "model", export(factors(), "hf")))}
    assert engines.configure(written, {"ROPEWALK_VLLM": "off"}) == untouched
    assert engines.configure(written) == {
        "additional": {"ropewalk": {"original_length": 256, "target_length": 1024, "short_mscale": 1.0}},
        "scheduler": "ropewalk.serving.scheduling.SwitchingScheduler",
        "worker": "ropewalk.serving.cpu_worker.SwitchingCpuWorker",
    }


def test_what_cannot_be_served_is_refused_at_the_start(engines: Engines, tmp_path: Path) -> None:
    written = str(copy_of_pocket(tmp_path / "model", export(factors(), "hf")))
    theirs = overrides()
    theirs["rope_parameters"]["rope_theta"] = 500.0
    fewer = overrides()
    for name in ("short_factor", "long_factor"):
        fewer["rope_parameters"][name].pop()

    def refused(environment: dict[str, str] | None = None, **options: Any) -> str:
        given = {"model": str(POCKET), "hf_overrides": overrides(), "max_model_len": TARGET_LENGTH} | options
        return str(engines.configure(given, environment).get("error"))

    assert refused(hf_overrides=theirs) == (
        "NotServed: rope_theta must be the model's, 10000.0, but --hf-overrides says 500.0: "
        "these are factors of another model"
    )
    assert refused(hf_overrides=fewer) == (
        "NotServed: short_factor must have a factor for each of the model's 16 pairs, but has 15: "
        "these are factors of another model"
    )
    assert refused(model=written) == (
        "NotServed: a model must be without factors to get others, but its config has those for 1024 tokens, and "
        "--hf-overrides has some for 1024"
    )
    assert refused({"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}, max_model_len=2000) == (
        "NotServed: --max-model-len must be at most the target length of the factors, 1024, but is 2000"
    )
    assert refused(scheduler_cls="mine.Scheduler") == (
        "NotServed: the scheduler must be vLLM's own, but is mine.Scheduler"
    )
    assert "without speculative decoding" in refused(
        speculative_config={"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 2}
    )
    assert refused({"ROPEWALK_VLLM": "of"}) == "NotServed: ROPEWALK_VLLM must be on or off, but is 'of'"


@pytest.mark.parametrize("ahead", [False, True], ids=["step by step", "a step ahead"])
@pytest.mark.parametrize("blocks", [33, 200], ids=["few blocks", "many blocks"])
def test_a_text_is_read_in_one_window_whatever_the_schedule(engines: Engines, ahead: bool, blocks: int) -> None:
    """What lies in the KV cache when a token is told was all read in the window that the text's length asks for."""
    prompts = {"a": 100, "b": 250, "c": 256, "d": 257, "e": 400, "f": 241, "g": 255}
    readings, told = engines.simulate(
        options={"max_model_len": 512, "max_num_batched_tokens": 64, "hf_overrides": overrides()},
        prompts=prompts,
        new=NEW,
        blocks=blocks,
        ahead=ahead,
    )
    for name, length in prompts.items():
        assert told[name] == list(range(length, length + NEW)), "each token once, in order"
        mine = [one for one in readings if one.name == name]
        for before, after in itertools.pairwise(mine):
            if not after.begins:
                assert after.start == before.start + before.count
                assert after.long == before.long
        for one in mine:
            if one.tells:
                assert one.long == (one.start + one.count > ORIGINAL_LENGTH)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what vLLM imports
def test_a_model_that_rotates_otherwise_is_refused_with_both_names() -> None:
    from ropewalk.serving.plan import ServingPlan
    from ropewalk.serving.rotary import Offsets

    class TheirRotaryEmbedding(torch.nn.Module):
        """Not vLLM's for longrope."""

    plan = ServingPlan(original_length=256, target_length=1024, short_mscale=1.0)
    model = torch.nn.Sequential(TheirRotaryEmbedding(), torch.nn.Linear(2, 2))
    with pytest.raises(NotServed) as caught:
        Offsets(model, plan, tokens=8, device=torch.device("cpu"))
    assert str(caught.value) == (
        "a model with a switch must rotate by vLLM's Phi3LongRoPEScaledRotaryEmbedding, but Sequential has "
        "TheirRotaryEmbedding"
    )
