"""A scorer for the pocket model alone: the same numbers as TransformersScorer's, faster, and each of them once.

A benchmark of searches needs hundreds of thousands of passes. Two things make them cheap here. In the last layer only
the positions that predict an answer token are computed, beyond keys and values: on a model of four layers that saves a
third at 2,048 tokens. And every score is kept in a file by its content, so that runs which meet the same candidate on
the same document share it, and an interrupted benchmark goes on. `tests/benchmarks` holds the numbers to
TransformersScorer's.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn import functional

from evaluation.documents.needle import NeedleDocument
from evaluation.documents.score_key import candidate_digest, document_digest, score_key
from evaluation.models.source import config_sha256, model_sha256, resolve_model
from evaluation.scores.score import DocumentScore
from search_space.rope.config import compute_inv_freq
from search_space.rope.scaling import Scaling
from workers.base import ScorerInfo, ScorerSettings
from workers.transformers_backend.scorer import TransformersScorer

ORIGINAL_LENGTH = 256  # L of the pocket model, tokens
_REVISION = "pocket forward 1"  # raise it with every change that moves a score


class PocketScorer:
    """Implements :class:`workers.base.DifferentiableScorer` with one thread, on the CPU, for the pocket model or a
    directory with weights trained from it.

    `passes` counts the forward passes that were really run.
    """

    def __init__(self, store: Path, model_name: str = "pocket") -> None:
        torch.set_num_threads(1)
        source = resolve_model(model_name, original_length=ORIGINAL_LENGTH)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(str(source.path), dtype=torch.float32)
        self._name = model_name
        self._rope = source.rope
        self._forward = _Forward(model)
        self._store = _Store(store)
        self._digests: dict[str, bytes] = {}
        self._differentiable: TransformersScorer | None = None
        self._length = 0
        self.passes = 0
        self._info = ScorerInfo(
            backend="pocket",
            dtype="float32",
            device="cpu",
            arithmetic="1 thread",
            model_sha256=model_sha256(source),
            config_sha256=config_sha256(source),
            version=_REVISION,
        )

    @property
    def info(self) -> ScorerInfo:
        """What produces the scores."""
        return self._info

    def score(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
        """See :meth:`workers.base.Scorer.score`."""
        candidate = candidate_digest(scaling)
        keys = [self._key(document, candidate) for document in documents]
        known = self._store.get(keys)
        inv_freq = torch.from_numpy(compute_inv_freq(self._rope, scaling.factors)).float()
        new: dict[bytes, tuple[float, int, bool]] = {}
        for key, document in zip(keys, documents, strict=True):
            if key not in known and key not in new:
                new[key] = self._forward.score(inv_freq, scaling.attention_factor, document)
        self.passes += len(new)
        self._store.put(new)
        found = {**known, **new}
        return tuple(
            DocumentScore(document_id=document.id, nats=nats, tokens=tokens, exact=exact)
            for document, (nats, tokens, exact) in zip(documents, (found[key] for key in keys), strict=True)
        )

    def score_with_gradients(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
        """See :meth:`workers.base.DifferentiableScorer.score_with_gradients`: transformers' own, kept nowhere."""
        length = max(len(document.token_ids) for document in documents)
        if self._differentiable is None or self._length < length:
            original_length = self._rope.original_max_position_embeddings
            self._length = length
            self._differentiable = TransformersScorer(
                ScorerSettings(model=self._name, target_length=length, original_length=original_length, threads=1)
            )
        self.passes += len(documents)
        return self._differentiable.score_with_gradients(scaling, documents)

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def _key(self, document: NeedleDocument, candidate: bytes) -> bytes:
        if document.id not in self._digests:
            self._digests[document.id] = document_digest(document)
        return score_key(
            model_sha256=self._info.model_sha256,
            scorer=self._info.fingerprint(),
            document=self._digests[document.id],
            candidate=candidate,
        )


class _Store:
    """Scores in an SQLite file that several processes share."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=120.0, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = wal")
        self._connection.execute("PRAGMA synchronous = off")  # a lost score costs one pass
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS pocket_scores "
            "(key BLOB PRIMARY KEY, nats REAL, tokens INTEGER, exact INTEGER) WITHOUT ROWID"
        )

    def get(self, keys: Sequence[bytes]) -> dict[bytes, tuple[float, int, bool]]:
        """Those of `keys` that are known: (nats, answer tokens, exact)."""
        found: dict[bytes, tuple[float, int, bool]] = {}
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, nats, tokens, exact FROM pocket_scores WHERE key IN ({marks})"
            for key, nats, tokens, exact in self._connection.execute(query, part):
                found[key] = (nats, tokens, bool(exact))
        return found

    def put(self, scores: dict[bytes, tuple[float, int, bool]]) -> None:
        """Keep `scores`."""
        rows = [(key, nats, tokens, int(exact)) for key, (nats, tokens, exact) in scores.items()]
        if rows:
            self._connection.executemany("INSERT OR IGNORE INTO pocket_scores VALUES (?, ?, ?, ?)", rows)

    def close(self) -> None:
        self._connection.close()


class _Forward:
    """The forward pass of a small Llama, as transformers does it; weights are transposed once."""

    def __init__(self, model: Any) -> None:
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
        self, inv_freq: torch.Tensor, attention_factor: float, document: NeedleDocument
    ) -> tuple[float, int, bool]:
        """(nats, answer tokens, exact) of one document; `inv_freq` is (rotary_dim / 2,)."""
        token_ids = torch.tensor(document.token_ids)
        answers = torch.tensor([p for span in document.answer_spans for p in range(*span)])
        angles = torch.arange(len(token_ids), dtype=torch.float32)[:, None] * inv_freq[None]
        cos, sin = angles.cos()[:, None] * attention_factor, angles.sin()[:, None] * attention_factor
        hidden = self._embedding[token_ids]
        for layer in self._layers[:-1]:
            normed = self._norm(hidden, layer.attention_norm)
            query, key, value = (normed @ layer.qkv).view(-1, 3, self._heads, self._head_dim).unbind(1)
            query, key = _rotate(query, cos, sin), _rotate(key, cos, sin)
            q, k, v = (part.transpose(0, 1)[None] for part in (query, key, value))
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            hidden = self._after_attention(hidden, mixed[0].transpose(0, 1), layer)
        hidden = self._last_layer(hidden, cos, sin, asked=answers - 1)
        logits = self._norm(hidden, self._last_norm) @ self._embedding.t()
        targets = token_ids[answers]
        log_probabilities = torch.log_softmax(logits, dim=-1).gather(-1, targets[:, None])[:, 0]
        nats = -float(log_probabilities.double().sum())
        return nats, len(targets), bool((logits.argmax(dim=-1) == targets).all())

    def _last_layer(
        self, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, asked: torch.Tensor
    ) -> torch.Tensor:
        """The last layer at the positions `asked` (answers,) only: (answers, hidden)."""
        layer = self._layers[-1]
        normed = self._norm(hidden, layer.attention_norm)
        query = (normed[asked] @ layer.query).view(-1, self._heads, self._head_dim)
        key, value = (normed @ layer.key_value).view(-1, 2, self._heads, self._head_dim).unbind(1)
        query, key = _rotate(query, cos[asked], sin[asked]), _rotate(key, cos, sin)
        weights = torch.einsum("qhd,khd->hqk", query, key) / math.sqrt(self._head_dim)
        later = torch.arange(len(hidden))[None, None] > asked[None, :, None]
        mixed = torch.einsum("hqk,khd->qhd", weights.masked_fill(later, -math.inf).softmax(-1), value)
        return self._after_attention(hidden[asked], mixed, layer)

    def _after_attention(self, hidden: torch.Tensor, mixed: torch.Tensor, layer: _Layer) -> torch.Tensor:
        hidden = hidden + mixed.reshape(len(hidden), -1) @ layer.output
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
    """x (tokens, heads, head_dim), cos and sin (tokens, 1, head_dim / 2): transformers' half-split rotation."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
