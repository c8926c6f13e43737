"""The rows of `benchmarks/scoring/__main__.py` that need vLLM."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import vllm

from benchmarks.scoring.ratios import Ratio, Workload, in_turns
from evaluation.documents.needle import NeedleDocument
from search_space.rope.hf_config import read_rope
from workers.vllm_backend.model import hf_overrides, model_length
from workers.vllm_backend.scorer import VllmScorer

_TINY_TOKENS = 64
_WIDEST = 20  # what vLLM's server returns at most, unless told otherwise


def rows(workload: Workload) -> Iterator[Ratio]:
    """Swap against reload, and the scorer against what vLLM does for the same documents otherwise."""
    scorer = VllmScorer(workload.settings("vllm"))
    yield _swap(scorer, workload)
    scored = ("VllmScorer", lambda: _score(scorer, workload, workload.documents))
    engine = _bare_engine(workload)
    yield in_turns(scored, ("vLLM, no log-probabilities", _asking(engine, workload)), repeats=workload.repeats)
    widest = _asking(engine, workload, prompt_logprobs=_WIDEST)
    yield in_turns(scored, (f"vLLM, prompt_logprobs={_WIDEST}", widest), repeats=workload.repeats)
    scorer.close()


def _swap(scorer: VllmScorer, workload: Workload) -> Ratio:
    """What a change of candidate costs, the forward pass of a short document included.

    Against opening a scorer: what a candidate costs whose factors are in the config that an engine starts with.
    """
    first = workload.documents[0]
    start = first.answer_spans[0][0] - _TINY_TOKENS // 2
    tiny = replace(
        first,
        token_ids=first.token_ids[start:],
        answer_spans=tuple((begin - start, end - start) for begin, end in first.answer_spans),
    )
    calls = 20

    def alternate() -> None:
        for call in range(calls):
            _score(scorer, workload, (tiny,), candidate=call % 2)

    def reload() -> None:
        VllmScorer(workload.settings("vllm")).close()

    found = in_turns(
        ("hot swap, with a document of some tens of tokens", alternate),
        ("a new engine", reload),
        repeats=workload.repeats,
        warm=False,
    )
    return replace(found, first=found.first / calls, ratio=found.ratio / calls)


def _score(
    scorer: VllmScorer, workload: Workload, documents: tuple[NeedleDocument, ...], *, candidate: int = 0
) -> None:
    one = workload.candidates[candidate]
    scorer.score(one.scaling, documents)


def _bare_engine(workload: Workload) -> Any:
    """vLLM as a user would start it for these documents, in its own process as it does by itself."""
    config = json.loads((workload.path / "config.json").read_text(encoding="utf-8"))
    rope = read_rope(config)
    return vllm.LLM(
        model=str(workload.path),
        hf_overrides=hf_overrides(
            config, rope, original_length=workload.original_length, target_length=workload.target_length
        ),
        max_model_len=model_length(workload.target_length),
        dtype="float32",
        enforce_eager=True,
        enable_prefix_caching=False,
        skip_tokenizer_init=True,
        max_logprobs=_WIDEST,
        kv_cache_memory_bytes=2**30,
        disable_log_stats=True,
    )


def _asking(engine: Any, workload: Workload, *, prompt_logprobs: int | None = None) -> Callable[[], None]:
    parameters = vllm.SamplingParams(
        max_tokens=1, temperature=0.0, detokenize=False, ignore_eos=True, prompt_logprobs=prompt_logprobs
    )
    prompts = [{"prompt_token_ids": list(document.token_ids)} for document in workload.documents]

    def ask() -> None:
        engine.generate(prompts, parameters, use_tqdm=False)

    return ask
