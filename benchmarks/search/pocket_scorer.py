"""A scorer for the pocket model alone: the same numbers as TransformersScorer's, faster, and each of them once.

A benchmark of searches needs hundreds of thousands of passes. Two things make them cheap here. In the last layer only
the positions that predict an answer token are computed, beyond keys and values: on a model of four layers that saves a
third at 2,048 tokens. And every score is kept in a file by its content, so that runs which meet the same candidate on
the same document share it, and an interrupted benchmark goes on. `tests/benchmarks` holds the numbers to
TransformersScorer's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn import functional

from benchmarks.search.score_store import Found, ScoreStore
from evaluation.documents.needle import NeedleDocument
from evaluation.documents.skipping import positions_of
from evaluation.models.source import config_sha256, model_sha256, resolve_model
from evaluation.scores.score import DocumentScore
from ropewalk.rope.config import compute_inv_freq
from ropewalk.rope.scaling import Scaling
from workers.base import ScorerInfo, ScorerSettings
from workers.transformers_backend.scorer import TransformersScorer

ORIGINAL_LENGTH = 256  # L of the pocket model, tokens
_TOKENS_ON_A_GPU = 2**18  # of a forward pass
_REVISION = "pocket forward 2"  # raise it with every change that moves a score


class PocketScorer:
    """Implements :class:`workers.base.DifferentiableScorer` for the pocket model or a directory with a model of its
    kind: with one thread on a CPU, in large batches on a GPU.
    """

    def __init__(self, store: Path, model_name: str = "pocket", *, device: str = "cpu") -> None:
        torch.set_num_threads(1)
        source = resolve_model(model_name, original_length=ORIGINAL_LENGTH)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(str(source.path), dtype=torch.float32)
        self._name = model_name
        self._rope = source.rope
        self._forward = _Forward(model.to(device), torch.device(device))
        self._at_once = 1 if device == "cpu" else _TOKENS_ON_A_GPU
        self._differentiable: TransformersScorer | None = None
        self._length = 0
        self._info = ScorerInfo(
            backend="pocket",
            dtype="float32",
            device=device,
            arithmetic="1 thread" if device == "cpu" else "batches",
            model_sha256=model_sha256(source),
            config_sha256=config_sha256(source),
            version=_REVISION,
        )
        self._store = ScoreStore(store, self._info)

    @property
    def passes(self) -> int:
        """Forward passes that were really run, those with derivatives left out."""
        return self._store.passes

    @property
    def info(self) -> ScorerInfo:
        """What produces the scores."""
        return self._info

    def score(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
        """See :meth:`workers.base.Scorer.score`."""
        inv_freq = torch.from_numpy(compute_inv_freq(self._rope, scaling.factors)).float()

        def compute(missing: Sequence[NeedleDocument]) -> list[Found]:
            found: dict[int, Found] = {}
            for alike in _alike(missing, at_once=self._at_once):
                group = [missing[index] for index in alike]
                found |= zip(alike, self._forward.score(inv_freq, scaling.attention_factor, group), strict=True)
            return [found[index] for index in range(len(missing))]

        return self._store.score(scaling, documents, compute)

    def score_with_gradients(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
        """See :meth:`workers.base.DifferentiableScorer.score_with_gradients`: transformers' own, kept nowhere."""
        length = max(len(document.token_ids) for document in documents)
        if self._differentiable is None or self._length < length:
            original_length = self._rope.original_max_position_embeddings
            self._length = length
            self._differentiable = TransformersScorer(
                ScorerSettings(model=self._name, target_length=length, original_length=original_length, threads=1)
            )
        return self._differentiable.score_with_gradients(scaling, documents)

    def close(self) -> None:
        """Close the file."""
        self._store.close()


class _Forward:
    """The forward pass of a small Llama, as transformers does it; weights are transposed once."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._device = device
        config = model.config
        self._heads, self._head_dim = config.num_attention_heads, config.head_dim
        if config.num_key_value_heads != self._heads:
            raise ValueError("the pocket model has as many key-value heads as heads")
        self._epsilon = config.rms_norm_eps
        self._embedding = model.model.embed_tokens.weight.detach()
        self._last_norm = model.model.norm.weight.detach()
        self._layers = [_Layer(layer) for layer in model.model.layers]

    @torch.inference_mode()
    def score(
        self, inv_freq: torch.Tensor, attention_factor: float, documents: Sequence[NeedleDocument]
    ) -> list[Found]:
        """Of documents that are alike in length and answers; `inv_freq` is (rotary_dim / 2,). Hidden states are
        (documents, tokens, hidden)."""
        token_ids = torch.tensor([document.token_ids for document in documents], device=self._device)
        answers = torch.tensor([p for span in documents[0].answer_spans for p in range(*span)], device=self._device)
        positions = np.stack([positions_of(len(one.token_ids), one.jumps) for one in documents])
        angles = torch.from_numpy(positions).float()[:, :, None, None] * inv_freq
        cos, sin = (part.to(self._device) * attention_factor for part in (angles.cos(), angles.sin()))
        hidden = self._embedding[token_ids]
        for layer in self._layers[:-1]:
            normed = self._norm(hidden, layer.attention_norm)
            query, key, value = self._split(normed @ layer.qkv, 3).unbind(2)
            q, k, v = (part.transpose(1, 2) for part in (_rotate(query, cos, sin), _rotate(key, cos, sin), value))
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            hidden = self._after_attention(hidden, mixed.transpose(1, 2), layer)
        hidden = self._last_layer(hidden, cos, sin, asked=answers - 1)
        logits = self._norm(hidden, self._last_norm) @ self._embedding.t()
        targets = token_ids[:, answers]
        log_probabilities = torch.log_softmax(logits, dim=-1).gather(-1, targets[..., None])[..., 0]
        nats = -log_probabilities.double().sum(dim=1)
        exact = (logits.argmax(dim=-1) == targets).all(dim=1)
        return [(float(one), len(answers), bool(all_)) for one, all_ in zip(nats, exact, strict=True)]

    def _last_layer(
        self, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, asked: torch.Tensor
    ) -> torch.Tensor:
        """The last layer at the positions `asked` (answers,) only: (documents, answers, hidden)."""
        layer = self._layers[-1]
        normed = self._norm(hidden, layer.attention_norm)
        query = self._split(normed[:, asked] @ layer.query, 1)[:, :, 0]
        key, value = self._split(normed @ layer.key_value, 2).unbind(2)
        query, key = _rotate(query, cos[:, asked], sin[:, asked]), _rotate(key, cos, sin)
        weights = torch.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(self._head_dim)
        later = torch.arange(hidden.shape[1], device=self._device)[None] > asked[:, None]
        mixed = torch.einsum("bhqk,bkhd->bqhd", weights.masked_fill(later, -math.inf).softmax(-1), value)
        return self._after_attention(hidden[:, asked], mixed, layer)

    def _split(self, projected: torch.Tensor, parts: int) -> torch.Tensor:
        """(documents, tokens, parts, heads, head_dim)."""
        return projected.view(*projected.shape[:2], parts, self._heads, self._head_dim)

    def _after_attention(self, hidden: torch.Tensor, mixed: torch.Tensor, layer: _Layer) -> torch.Tensor:
        hidden = hidden + mixed.flatten(-2) @ layer.output
        gate, up = (self._norm(hidden, layer.mlp_norm) @ layer.gate_up).chunk(2, dim=-1)
        result: torch.Tensor = hidden + (functional.silu(gate) * up) @ layer.down
        return result

    def _norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(hidden, (hidden.shape[-1],), weight, self._epsilon)


class _Layer:
    """One layer's weights, (in, out)."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        query, key, value = (getattr(attention, f"{name}_proj").weight.detach() for name in "qkv")
        self.qkv = torch.cat([query, key, value]).t().contiguous()
        self.query = query.t().contiguous()
        self.key_value = torch.cat([key, value]).t().contiguous()
        self.output = attention.o_proj.weight.detach().t().contiguous()
        self.gate_up = torch.cat([mlp.gate_proj.weight.detach(), mlp.up_proj.weight.detach()]).t().contiguous()
        self.down = mlp.down_proj.weight.detach().t().contiguous()
        self.attention_norm = layer.input_layernorm.weight.detach()
        self.mlp_norm = layer.post_attention_layernorm.weight.detach()


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x (documents, tokens, heads, head_dim), cos and sin (documents, tokens, 1, head_dim / 2).

    transformers' half-split rotation.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _alike(documents: Sequence[NeedleDocument], *, at_once: int) -> Iterator[list[int]]:
    """Indices of documents that are alike in length and answers, at most `at_once` tokens of them together."""
    groups: dict[tuple[int, tuple[tuple[int, int], ...]], list[int]] = {}
    for index, document in enumerate(documents):
        groups.setdefault((len(document.token_ids), document.answer_spans), []).append(index)
    for (length, _), group in groups.items():
        count = max(at_once // length, 1)
        yield from (group[first : first + count] for first in range(0, len(group), count))
