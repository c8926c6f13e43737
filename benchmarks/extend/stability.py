"""What a long generation across L does to an extended model, with the KV cache read anew at the switch and without.

A text of 2,000 generated tokens is looked at in stretches of L tokens:

    NLL         of the text under passes without a cache, on the RoPE of each length: what the model itself thinks of
                what was written. A generation that sees what such a pass sees stays where it began
    repeated    share of the stretch's runs of four tokens that the text had before
    unknown     share of its words that the corpus, with all its splits, does not have
    probe NLL   of one held-out text of 64 tokens, the same one after every stretch: read with nothing cached, and
                with the first L tokens cached as a generation without the helper has them

And two windows, one up to L and one past it, are scored before and after: generating must leave nothing behind.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM

from evaluation.documents.corpus import load_corpus
from evaluation.models.source import load_tokenizer, resolve_model
from evaluation.models.tokenizer import Tokenizer
from ropewalk.models.generating import generate

ORIGINAL_LENGTH = 256
PROMPT, NEW_TOKENS, PROBE = 40, 2000, 64
STRETCH = ORIGINAL_LENGTH
_RUN = 4
_WORD = re.compile(r"[A-Za-z]{2,}")

Mode = Literal["greedy", "sampled"]
Cache = Literal["read anew", "kept"]
_OPTIONS: dict[Mode, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sampled": {"do_sample": True, "temperature": 1.0, "top_k": 0},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """Tokens [end - L, end) of a generated text; probe is None before the switch, where there is one cache only."""

    end: int
    nll: float
    repeated: float
    unknown: float
    probe_anew: float
    probe_kept: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """One text. left_behind: largest change of a window's NLL by generating it, nats per token."""

    mode: Mode
    cache: Cache
    stretches: tuple[Stretch, ...]
    left_behind: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Stability:
    """Generations from one prompt, and what the same measures say of held-out text that nobody generated."""

    generations: tuple[Generation, ...]
    held_out: tuple[Stretch, ...]


def watch(checkpoint: Path, *, seed: int) -> Stability:
    """Generate from one prompt, greedily and sampled, with the helper and without; `seed` decides prompt and sampling.

    The checkpoint is loaded as any user of transformers loads it.
    """
    tokenizer = load_tokenizer(resolve_model(str(checkpoint), original_length=ORIGINAL_LENGTH))
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, use_safetensors=True)
    text = torch.tensor([tokenizer.encode(load_corpus(None).split_text("validation"))])
    watcher = _Watcher(model, tokenizer, text)
    start = 10_000 * (seed + 1)
    prompt = text[:, start : start + PROMPT]
    modes: tuple[Mode, ...] = ("sampled", "greedy")
    caches: tuple[Cache, ...] = ("read anew", "kept")
    return Stability(
        generations=tuple(watcher.generation(prompt, mode, cache, seed=seed) for mode in modes for cache in caches),
        held_out=watcher.stretches(text[:, start : start + PROMPT + NEW_TOKENS]),
    )


class _Watcher:
    """One loaded checkpoint, its probe, its two windows and the words that it may know."""

    def __init__(self, model: Any, tokenizer: Tokenizer, text: torch.Tensor) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._probe = text[:, :PROBE]
        self._windows = [text[:, 1000 : 1000 + length] for length in (ORIGINAL_LENGTH, 4 * ORIGINAL_LENGTH)]
        self._known = {word.lower() for word in _WORD.findall(load_corpus(None).text)}

    def generation(self, prompt: torch.Tensor, mode: Mode, cache: Cache, *, seed: int) -> Generation:
        """One text, looked at."""
        before = [self._nll(window) for window in self._windows]
        torch.manual_seed(seed)
        # A text that ends early has no later stretches: no token may end it.
        options = {**_OPTIONS[mode], "suppress_tokens": [self._model.config.eos_token_id], "pad_token_id": 0}
        if cache == "read anew":
            written = generate(self._model, prompt, max_new_tokens=NEW_TOKENS, **options)
        else:
            mask = torch.ones_like(prompt)
            written = self._model.generate(prompt, attention_mask=mask, max_new_tokens=NEW_TOKENS, **options)
        after = [self._nll(window) for window in self._windows]
        changes = [float((b - a).abs().max()) for a, b in zip(before, after, strict=True)]
        return Generation(mode=mode, cache=cache, stretches=self.stretches(written), left_behind=max(changes))

    def stretches(self, written: torch.Tensor) -> tuple[Stretch, ...]:
        """A text of PROMPT + NEW_TOKENS tokens, (1, tokens), stretch by stretch; less than a stretch is left out."""
        ids: list[int] = written[0].tolist()
        nll = torch.cat([self._nll(written[:, :STRETCH]), self._nll(written)[STRETCH - 1 :]])
        seen: set[tuple[int, ...]] = set()
        found = []
        for end in range(STRETCH, len(ids) - PROBE + 1, STRETCH):
            part = ids[end - STRETCH : end]
            found.append(
                Stretch(
                    end=end,
                    nll=float(nll[max(end - STRETCH - 1, 0) : end - 1].mean()),
                    repeated=repeated_runs(part, seen),
                    unknown=self._unknown(part),
                    probe_anew=self._probe_nll(written[:, :end], keep=False),
                    probe_kept=self._probe_nll(written[:, :end], keep=True) if end > STRETCH else None,
                )
            )
        return tuple(found)

    @torch.inference_mode()
    def _nll(self, ids: torch.Tensor) -> torch.Tensor:
        """Of every token but the first, read in one pass, nats: (tokens - 1,)."""
        return _nll_of(self._model(input_ids=ids, use_cache=False).logits[:, :-1], ids[:, 1:])

    @torch.inference_mode()
    def _probe_nll(self, before: torch.Tensor, *, keep: bool) -> float:
        """The probe's mean NLL after `before`; with `keep` the first L tokens lie in a cache of the short factors."""
        ids = torch.cat([before, self._probe], dim=1)
        if not keep:
            return float(self._nll(ids)[-PROBE:].mean())
        cached = self._model(input_ids=ids[:, :ORIGINAL_LENGTH], use_cache=True).past_key_values
        logits = self._model(input_ids=ids[:, ORIGINAL_LENGTH:], past_key_values=cached).logits
        return float(_nll_of(logits[:, -PROBE - 1 : -1], self._probe).mean())

    def _unknown(self, ids: Sequence[int]) -> float:
        # The words at both ends may be cut.
        words = [word.lower() for word in _WORD.findall(self._tokenizer.decode(ids))[1:-1]]
        return sum(word not in self._known for word in words) / max(1, len(words))


def repeated_runs(ids: Sequence[int], seen: set[tuple[int, ...]]) -> float:
    """Share of runs that are in `seen`, to which all are added."""
    again = 0
    runs = [tuple(ids[start : start + _RUN]) for start in range(len(ids) - _RUN + 1)]
    for run in runs:
        again += run in seen
        seen.add(run)
    return again / len(runs)


def _nll_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """logits (1, n, vocabulary) and targets (1, n): nats (n,)."""
    return torch.nn.functional.cross_entropy(logits[0].float(), targets[0], reduction="none")
