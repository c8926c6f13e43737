"""The rows of vLLM: does it give the numbers of transformers, how fast, and what does a swap cost?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.machine import figure
from benchmarks.scoring.bare import Work, Workload
from benchmarks.scoring.ratios import HEADER, in_turns
from benchmarks.session import Session
from evaluation.models.source import read_config
from workers.base import Scorer
from workers.errors import ScorerUnavailable
from workers.transformers_backend.scorer import TransformersScorer
from workers.vllm_backend.model import hf_overrides, model_length
from workers.vllm_backend.scorer import VllmScorer

_TINY_TOKENS = 64
_RELOADS = 2  # an engine takes most of a minute to start
_SWAPS = 20
_WIDEST = 20  # log-probabilities a position: what vLLM's server returns at most, unless told otherwise
_KV_CACHE = 2**30  # bytes of the bare engine's


def measure_vllm(workload: Workload) -> None:
    """Three tables; one line where vLLM cannot score the model."""
    session = workload.session
    try:
        scorer = VllmScorer(session.settings("vllm"))
    except ScorerUnavailable as error:
        session.report.add("", f"No rows of vLLM: {error}")
        return
    session.report.add("", f"vLLM: {scorer.info.version}; {scorer.info.arithmetic}.")
    _against_transformers(workload, scorer)
    _swap(session, scorer)
    if session.machine.device.type == "cpu":  # a second engine beside the scorer's does not fit every GPU
        _against_bare_engine(workload, scorer)
    scorer.close()


def _against_transformers(workload: Workload, scorer: VllmScorer) -> None:
    session = workload.session
    other = TransformersScorer(session.settings("transformers"))
    session.report.table(("length", "vLLM, documents/s", "vLLM / transformers, s", "largest difference, nats/token"))
    for length in session.lengths:
        if not session.has_time(f"vLLM at {length}"):
            break
        work = workload.work(length)
        ratio = in_turns(
            ("vLLM", partial(work.score, scorer)),
            ("transformers", partial(work.score, other)),
            repeats=workload.repeats,
        )
        pairs = zip(_per_token(work, scorer), _per_token(work, other), strict=True)
        apart = max(abs(mine - theirs) for mine, theirs in pairs)
        rate = figure(len(work.documents) / ratio.first)
        session.report.row(f"{length}", rate, figure(ratio.ratio), figure(apart, ".2g"))
    other.close()


def _per_token(work: Work, scorer: Scorer) -> list[float]:
    """Nats per answer token of each document."""
    return [score.nats / score.tokens for score in work.score(scorer)]


def _swap(session: Session, scorer: VllmScorer) -> None:
    """A change of candidate, the forward pass of a short document included, against a new engine: what a candidate
    costs whose factors are in the config that an engine starts with."""
    if not session.has_time("vLLM's swap against a new engine"):
        return
    first = session.documents(min(session.lengths), 1)[0]
    start = first.answer_spans[0][0] - _TINY_TOKENS // 2
    spans = tuple((begin - start, end - start) for begin, end in first.answer_spans)
    tiny = dataclasses.replace(first, token_ids=first.token_ids[start:], answer_spans=spans)

    def alternate() -> None:
        for call in range(_SWAPS):
            one = session.candidates[call % 2]
            scorer.score(one.scaling, (tiny,))

    found = in_turns(
        ("vLLM: hot swap, with a document of some tens of tokens", alternate),
        ("a new engine", lambda: VllmScorer(session.settings("vllm")).close()),
        repeats=_RELOADS,
        warm=False,
    ).each_of(_SWAPS)
    session.report.add("", f"Hot swap in vLLM: {1000 * found.first:.3g} ms.")
    session.report.add("", *HEADER.splitlines(), found.line())


def _against_bare_engine(workload: Workload, scorer: VllmScorer) -> None:
    """The scorer against what vLLM does for the same documents otherwise."""
    session, repeats = workload.session, workload.repeats
    work, engine = workload.work(session.target_length), _bare_engine(session)
    scored = ("VllmScorer", partial(work.score, scorer))
    session.report.add("", *HEADER.splitlines())
    for name, logprobs in (("vLLM, no log-probabilities", None), (f"vLLM, prompt_logprobs={_WIDEST}", _WIDEST)):
        session.report.add(in_turns(scored, (name, _asking(engine, work, logprobs)), repeats=repeats).line())


def _bare_engine(session: Session) -> Any:
    """vLLM as a user would start it for these documents, in its own process as it does by itself."""
    import vllm

    source, settings = session.source, session.settings("vllm")
    overrides = hf_overrides(
        read_config(source.path),
        source.rope,
        original_length=session.original_length,
        target_length=settings.target_length,
    )
    return vllm.LLM(
        model=str(source.path),
        hf_overrides=overrides,
        max_model_len=model_length(settings.target_length),
        dtype="float32",
        enforce_eager=True,
        enable_prefix_caching=False,
        skip_tokenizer_init=True,
        max_logprobs=_WIDEST,
        kv_cache_memory_bytes=_KV_CACHE,
        disable_log_stats=True,
    )


def _asking(engine: Any, work: Work, prompt_logprobs: int | None) -> Callable[[], None]:
    import vllm

    parameters = vllm.SamplingParams(
        max_tokens=1, temperature=0.0, detokenize=False, ignore_eos=True, prompt_logprobs=prompt_logprobs
    )
    prompts = [{"prompt_token_ids": list(document.token_ids)} for document in work.documents]

    def ask() -> None:
        engine.generate(prompts, parameters, use_tqdm=False)

    return ask
