"""A causal language model as the training sees it: micro-batch in, summed loss out.

Symbols: B rows, T tokens per row, N targets.
"""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from evaluation.architecture.attention import (
    ATTENTION,
    DocumentLengths,
    agrees,
    asked_windows,
    own_attention,
    same_windows,
)
from evaluation.architecture.config import load_config
from evaluation.architecture.probing import layers_of
from evaluation.architecture.skeleton import auto_class, decoder_layers
from evaluation.models.loading import progress_told
from evaluation.models.source import read_config
from finetune.data import MicroBatch
from finetune.errors import ModelNotTrainable
from finetune.loss import weighted_nll_sum

_PROBE_TOKENS = 4  # per document


class LanguageModelLoss(nn.Module):
    """Wraps a model of transformers; everything that training needs of its forward pass is here.

    Call `check` before it is sharded. It is the root of the sharding, so that the head's weight is whole inside
    `forward`.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self._plain_head = True
        self.packs = model.config._attn_implementation == ATTENTION
        """Whether a pass takes packed rows; else each document has one of its own, with the model's own attention."""

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The decoder's layers. Raises ModelNotTrainable when it shows none."""
        layers = decoder_layers(self.model)
        if not layers:
            raise ModelNotTrainable(f"the model must have a list of layers, but {type(self.model).__name__} has none")
        return tuple(layers)

    @property
    def recomputes(self) -> bool:
        """Whether activations are computed again in the backward pass."""
        return bool(self.model.is_gradient_checkpointing)

    @property
    def attention_heads(self) -> int:
        """Those whose matrix of T x T numbers is in memory at once, in each layer; 0 for a fused kernel."""
        text = self.model.config.get_text_config(decoder=True)
        return 0 if self.packs or own_attention(self.model) != "eager" else int(text.num_attention_heads)

    @property
    def _decoder(self) -> Any:
        return self.model.get_decoder()  # type: ignore[no-untyped-call]

    @property
    def _head(self) -> Any:
        return self.model.get_output_embeddings()  # type: ignore[no-untyped-call]

    def forward(self, batch: MicroBatch) -> torch.Tensor:
        """sum(w * nll) over a micro-batch's targets, nats, a float32 scalar with gradient.

        Token t is predicted from t - 1, so the first token of a document must weigh 0. The caller switches the rotary
        window on.
        """
        device = self.model.device
        token_ids = torch.from_numpy(batch.token_ids).to(device)
        position_ids = torch.from_numpy(batch.position_ids).to(device)
        weights = torch.from_numpy(batch.weights).to(device)
        lengths = batch.document_lengths
        # transformers takes a jump of the positions for the start of another document, unless a mask says otherwise.
        needs_mask = batch.kind == "skipped" and not self.packs

        def masked(ids: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"attention_mask": torch.ones_like(ids)} if needs_mask else {}

        if all(row == (token_ids.shape[1],) for row in lengths):
            return self._loss(token_ids, position_ids, weights, **masked(token_ids))
        if self.packs:
            return self._loss(token_ids, position_ids, weights, document_lengths=lengths)
        parts = []
        for row, start, end in _documents(lengths):
            alone = [one[row : row + 1, start:end] for one in (token_ids, position_ids, weights)]
            parts.append(self._loss(*alone, **masked(alone[0])))
        return torch.stack(parts).sum()

    def _loss(
        self, token_ids: torch.Tensor, position_ids: torch.Tensor, weights: torch.Tensor, **packing: Any
    ) -> torch.Tensor:
        """Of one pass of the model; all arrays are (B, T)."""
        is_target = weights[:, 1:] > 0
        targets, kept = token_ids[:, 1:][is_target], weights[:, 1:][is_target]
        inputs = {"input_ids": token_ids, "position_ids": position_ids, "use_cache": False, **packing}
        if not self._plain_head:
            logits = self.model(**inputs).logits[:, :-1][is_target].float()
            nats = nn.functional.cross_entropy(logits, targets, reduction="none")
            return (nats * kept).sum()
        hidden = self._decoder(**inputs).last_hidden_state[:, :-1][is_target]
        return weighted_nll_sum(hidden, self._head.weight, getattr(self._head, "bias", None), targets, kept)

    def check(self) -> None:
        """Run a few tokens: can documents be packed, and is the head a plain projection?

        A model whose attention does more than that of :mod:`evaluation.architecture.attention` (windows by chunks), or
        whose other layers carry a state from one document to the next, gets its own attention back and reads each
        document alone. A head that does more than project (caps or scales its logits) is left to the model itself,
        which makes all logits at once. To be called before a rotary switch is put on.
        """
        model = self.model
        ids = torch.arange(2 * _PROBE_TOKENS, device=model.device)[None] % model.config.get_text_config().vocab_size
        positions = torch.arange(_PROBE_TOKENS, device=model.device).repeat(2)[None]
        second = {"input_ids": ids[:, _PROBE_TOKENS:], "position_ids": positions[:, _PROBE_TOKENS:], "use_cache": False}
        lengths = ((_PROBE_TOKENS, _PROBE_TOKENS),)
        with torch.no_grad(), evaluating(model):
            if self.packs:
                with asked_windows() as windows:
                    packed = model(
                        input_ids=ids, position_ids=positions, document_lengths=lengths, use_cache=False
                    ).logits
                model.set_attn_implementation(own_attention(model))
            alone = model(**second).logits
            projected = self._projected(second)
        if self.packs:
            self.packs = same_windows(layers_of(model.config), windows) and agrees(packed[:, _PROBE_TOKENS:], alone)
        if self.packs:
            model.set_attn_implementation(ATTENTION)
        self._plain_head = projected is not None and agrees(projected, alone)

    def _projected(self, inputs: dict[str, Any]) -> torch.Tensor | None:
        """The decoder's states through the head; None where what is called the decoder is no such thing."""
        try:
            projected: torch.Tensor = self._head(self._decoder(**inputs).last_hidden_state)
        except (AttributeError, TypeError):  # a whole model (Llama 4), a head (ModernBERT)
            return None
        return projected


def _documents(lengths: DocumentLengths) -> Iterator[tuple[int, int, int]]:
    """Row, first token and end of each document."""
    for row, of_row in enumerate(lengths):
        ends = list(itertools.accumulate(of_row))
        yield from ((row, start, end) for start, end in zip([0, *ends], ends, strict=False))


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout inside the block."""
    training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(training)


def load_model(path: Path, *, dtype: torch.dtype | None = torch.float32) -> PreTrainedModel:
    """The language model in `path`, attending within documents; dtype None keeps the stored one.

    A family whose attention is its own alone (Falcon) keeps that. Raises ModelNotTrainable when it does not load.
    """
    try:
        return _load(path, dtype, attn_implementation=ATTENTION)
    except Exception:  # whatever a family raises for an attention that it has never heard of, or a broken file
        pass
    try:
        return _load(path, dtype)
    except Exception as error:  # transformers raises whatever its many readers raise
        raise ModelNotTrainable(
            f"the model must load as a causal language model, but {path} does not: {error}"
        ) from error


def _load(path: Path, dtype: torch.dtype | None, **attention: str) -> PreTrainedModel:
    config = load_config(read_config(path))
    with progress_told():
        model: PreTrainedModel = auto_class(config).from_pretrained(
            path,
            config=config,
            dtype=dtype or "auto",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **attention,
        )
    return model
