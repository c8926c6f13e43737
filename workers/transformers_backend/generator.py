"""The generator that runs anywhere torch does: a transformers model, loaded once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from evaluation.documents.windows import TextWindow, WindowScore
from evaluation.models.source import end_tokens
from evaluation.scores.served_rope import ServedRope
from workers.arithmetic import choose_device, choose_dtype
from workers.base import ScorerSettings
from workers.checks import check_length, check_prompt
from workers.errors import ScorerClosed, ScoringFailed
from workers.model import find_model
from workers.transformers_backend.passes import Opened
from workers.transformers_backend.rotary import RotaryTable
from workers.transformers_backend.scorer import load_model


class TransformersGenerator:
    """Implements :class:`workers.generator.Generator`; opening raises as :class:`TransformersScorer` does.

    One text at a time, with a KV cache. Logits exist for the last position alone, or for the positions that are scored.
    """

    def __init__(self, settings: ScorerSettings) -> None:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        device = choose_device()
        source = find_model(settings)
        dtype = choose_dtype(settings.dtype, device)
        model = load_model(source, dtype=dtype, device=device, target_length=settings.target_length)
        self._rope = source.rope
        self._target_length = settings.target_length
        self._end_tokens = end_tokens(source.path)
        self._opened: Opened | None = Opened(model=model, rotary=RotaryTable(model, source.rope), device=device)

    def generate(self, rope: ServedRope, token_ids: Sequence[int], max_new_tokens: int) -> tuple[int, ...]:
        """See :meth:`workers.generator.Generator.generate`."""
        check_prompt(token_ids, max_new_tokens)
        opened = self._ready(rope, len(token_ids) + max_new_tokens)
        with torch.inference_mode():
            return _continue(opened, rope, list(token_ids), max_new_tokens, self._end_tokens)

    def read(self, rope: ServedRope, window: TextWindow) -> WindowScore:
        """See :meth:`workers.generator.Generator.read`."""
        length = len(window.token_ids)
        opened = self._ready(rope, length)
        _write(opened, rope, length)
        token_ids = torch.tensor([window.token_ids], device=opened.device)
        scored = torch.arange(length - window.scored, length, device=opened.device)
        with torch.inference_mode():
            # Logits at position p predict token p + 1.
            logits = _forward(opened, token_ids, keep=scored - 1, cache=None).logits[0].float()
        targets = token_ids[0, scored]
        nats = -torch.log_softmax(logits, dim=-1).gather(-1, targets[:, None]).double().sum().item()
        correct = int((logits.argmax(dim=-1) == targets).sum())
        if not math.isfinite(nats):
            raise ScoringFailed(f"a score must be a finite number of nats, but the model gave {nats} for {window.id!r}")
        return WindowScore(window_id=window.id, nats=nats, tokens=window.scored, correct=correct)

    def close(self) -> None:
        """Drop the model, and give cached device memory back."""
        self._opened = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _ready(self, rope: ServedRope, length: int) -> Opened:
        """The model, once everything is checked."""
        if self._opened is None:
            raise ScorerClosed("a generator must be open, but close() was called")
        rope.scaling.check_fits(self._rope.num_pairs)
        check_length(length, target_length=self._target_length)
        return self._opened


def _continue(
    opened: Opened, rope: ServedRope, token_ids: list[int], max_new_tokens: int, end_tokens: frozenset[int]
) -> tuple[int, ...]:
    prompt = len(token_ids)
    cache: Any = None
    was_long: bool | None = None
    for _ in range(max_new_tokens):
        if rope.is_long(len(token_ids)) != was_long:
            # The first pass, or the switch at L: cached keys were rotated by other factors, so all is read anew.
            was_long, cache = rope.is_long(len(token_ids)), None
            _write(opened, rope, len(token_ids))
        unread = token_ids if cache is None else token_ids[-1:]
        output = _forward(opened, torch.tensor([unread], device=opened.device), keep=1, cache=cache)
        cache = output.past_key_values
        logits = output.logits[0, -1]
        if not bool(logits.isfinite().any()):
            raise ScoringFailed("a model must give finite logits, but none is")
        token = int(logits.argmax())
        if token in end_tokens:
            break
        token_ids.append(token)
    return tuple(token_ids[prompt:])


def _write(opened: Opened, rope: ServedRope, length: int) -> None:
    with torch.no_grad():
        opened.rotary.write(rope.at(length))


def _forward(opened: Opened, token_ids: torch.Tensor, *, keep: int | torch.Tensor, cache: Any) -> Any:
    """One pass over (1, tokens) that go on where `cache` ends. A tensor to `keep` means: these positions, no cache."""
    model: Any = opened.model
    use_cache = isinstance(keep, int)
    return model(input_ids=token_ids, past_key_values=cache, use_cache=use_cache, logits_to_keep=keep)
