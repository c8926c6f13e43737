"""A causal language model as the training sees it: micro-batch in, summed loss out.

Symbols: B rows, T tokens per row, N targets.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from evaluation.architecture.config import load_config
from evaluation.architecture.skeleton import auto_class
from evaluation.models.source import read_config
from finetune.attention import ATTENTION
from finetune.data import MicroBatch
from finetune.errors import ModelNotTrainable
from finetune.loss import weighted_nll_sum
from finetune.output.checkpoint import no_progress_bars

_PROBE_TOKENS = 4  # per document
_PROBE_TOLERANCE = {torch.float32: 1e-3}  # of the largest logit
_ROUGH_PROBE_TOLERANCE = 5e-2  # in shorter types


class LanguageModelLoss(nn.Module):
    """Wraps a model of transformers; everything that training needs of its forward pass is here.

    Call `check` before it is sharded. It is the root of the sharding, so that the head's weight is whole inside
    `forward`.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self._plain_head = True

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The decoder's layers. Raises ModelNotTrainable when it shows none."""
        layers = getattr(self._decoder, "layers", None)
        if not isinstance(layers, nn.ModuleList):
            raise ModelNotTrainable(f"the model must have a list of layers, but {type(self.model).__name__} has none")
        return tuple(layers)

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
        is_target = weights[:, 1:] > 0
        targets, kept = token_ids[:, 1:][is_target], weights[:, 1:][is_target]
        lengths = batch.document_lengths
        whole_rows = all(row == (token_ids.shape[1],) for row in lengths)
        inputs = {
            "input_ids": token_ids,
            "position_ids": position_ids,
            "document_lengths": None if whole_rows else lengths,
            "use_cache": False,
        }
        if not self._plain_head:
            logits = self.model(**inputs).logits[:, :-1][is_target].float()
            nats = nn.functional.cross_entropy(logits, targets, reduction="none")
            return (nats * kept).sum()
        hidden = self._decoder(**inputs).last_hidden_state[:, :-1][is_target]
        return weighted_nll_sum(hidden, self._head.weight, getattr(self._head, "bias", None), targets, kept)

    def check(self) -> None:
        """Run a few tokens: does attention keep packed documents apart, and is the head a plain projection?

        A head that does more (caps or scales its logits) is left to the model itself, which makes all logits at once.
        To be called before a rotary switch is put on.

        Raises:
            ModelNotTrainable: the model does not hand the documents on to its attention.
        """
        model = self.model
        ids = torch.arange(2 * _PROBE_TOKENS, device=model.device)[None] % model.config.get_text_config().vocab_size
        positions = torch.arange(_PROBE_TOKENS, device=model.device).repeat(2)[None]
        lengths = ((_PROBE_TOKENS, _PROBE_TOKENS),)
        with torch.no_grad(), evaluating(model):
            packed = model(input_ids=ids, position_ids=positions, document_lengths=lengths, use_cache=False).logits
            second = ids[:, _PROBE_TOKENS:], positions[:, _PROBE_TOKENS:]
            alone = model(input_ids=second[0], position_ids=second[1], use_cache=False).logits
            decoded = self._decoder(input_ids=second[0], position_ids=second[1], use_cache=False)
            projected = self._head(decoded.last_hidden_state)
        if not _close(packed[:, _PROBE_TOKENS:], alone):
            raise ModelNotTrainable(
                f"the model must attend through transformers' attention interface and hand on `document_lengths`, but "
                f"{type(model).__name__} does not keep packed documents apart"
            )
        self._plain_head = _close(projected, alone)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout inside the block."""
    training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(training)


def _close(left: torch.Tensor, right: torch.Tensor) -> bool:
    tolerance = _PROBE_TOLERANCE.get(right.dtype, _ROUGH_PROBE_TOLERANCE)
    return bool((left - right).abs().max() <= tolerance * right.abs().max().clamp(min=1e-6))


def load_model(path: Path, *, dtype: torch.dtype | None = torch.float32) -> PreTrainedModel:
    """The language model in `path`, attending within documents; dtype None keeps the stored one.

    Raises ModelNotTrainable when it does not load.
    """
    try:
        config = load_config(read_config(path))
        with no_progress_bars():
            model: PreTrainedModel = auto_class(config).from_pretrained(
                path,
                config=config,
                dtype=dtype or "auto",
                attn_implementation=ATTENTION,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
            )
    except Exception as error:  # transformers raises whatever its many readers raise
        raise ModelNotTrainable(
            f"the model must load as a causal language model, but {path} does not: {error}"
        ) from error
    return model
