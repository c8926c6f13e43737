"""Measures a pocket model: retrieval inside its window, and how it breaks and is mended beyond it.

    python -m examples.pocket.report examples/pocket/model

Documents are validation documents: their text and key words were not seen in training.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from evaluation.documents.corpus import load_corpus
from evaluation.documents.factory import DocumentFactory, DocumentRequest
from evaluation.documents.needle import NeedleDocument
from evaluation.models.source import load_tokenizer, resolve_model
from examples.pocket.train import WINDOW
from ropewalk.rope.config import RopeConfig, compute_inv_freq
from search_space.candidates.baselines import BASELINE_NAMES, baseline, own_attention_factor

SEED = 505
_BATCH_TOKENS = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """`nll` is in nats per answer token; `digits` and `exact` are shares of answer tokens and of whole answers."""

    documents: int
    nll: float
    digits: float
    exact: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """What a shipped model must reach: `holds` says whether `text` is true of this one."""

    text: str
    value: float
    holds: bool


def set_rope(model: PreTrainedModel, inv_freq: Sequence[float], attention_factor: float) -> None:
    """Replaces the inverse frequencies (radians per position) and the factor on cosine and sine, in place."""
    rotary = model.get_submodule("model.rotary_emb")
    rotary.get_buffer("inv_freq").copy_(torch.tensor(inv_freq, dtype=torch.float32))
    rotary.attention_scaling = attention_factor  # type: ignore[assignment]


@torch.inference_mode()
def measure(model: PreTrainedModel, documents: Sequence[NeedleDocument]) -> Measurement:
    """Teacher-forced scores of the answers, which end the documents; exact: greedy decoding would give the value."""
    length = len(documents[0].token_ids)
    size = max(1, _BATCH_TOKENS // length)
    hits, nats = [], []
    for first in range(0, len(documents), size):
        batch = documents[first : first + size]
        ids = torch.tensor([document.token_ids for document in batch])
        start, end = batch[0].answer_spans[0]
        logits = model(input_ids=ids, logits_to_keep=length - start + 1).logits[:, : end - start]
        answers = ids[:, start:end]
        nats.append(torch.nn.functional.cross_entropy(logits.mT, answers, reduction="none"))
        hits.append(logits.argmax(-1) == answers)
    found = torch.cat(hits)
    return Measurement(
        documents=len(documents),
        nll=float(torch.cat(nats).double().mean()),
        digits=float(found.double().mean()),
        exact=float(found.all(-1).double().mean()),
    )


class Examiner:
    """Builds documents and scores the model on them under any baseline."""

    def __init__(self, folder: Path) -> None:
        source = resolve_model(str(folder))
        self._rope: RopeConfig = source.rope
        self._factory = DocumentFactory(load_tokenizer(source), load_corpus(None))
        self._model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True
        )

    def documents(self, length: int, count: int) -> tuple[NeedleDocument, ...]:
        return self._factory.build(DocumentRequest(target_length=length, count=count, seed=SEED, split="validation"))

    def score(self, name: str, documents: Sequence[NeedleDocument], *, own_factor: bool = False) -> Measurement:
        """Scores under baseline `name`, with attention factor 1 or the one that its authors use."""
        length = max(len(documents[0].token_ids), WINDOW)
        factors = baseline(name, self._rope, length).scaling.factors
        attention = own_attention_factor(name, self._rope, length) if own_factor else 1.0
        set_rope(self._model, compute_inv_freq(self._rope, factors).tolist(), attention)
        return measure(self._model, documents)


def thresholds(inside: Measurement, four: Measurement, eight: Measurement) -> tuple[Threshold, ...]:
    """The demands on retrieval inside the window L and on breaking beyond it, without scaling."""
    return (
        Threshold(text="digit accuracy at L >= .98", value=inside.digits, holds=inside.digits >= 0.98),
        Threshold(text="exact match at L >= .90", value=inside.exact, holds=inside.exact >= 0.90),
        Threshold(text="exact match at 4L <= .40", value=four.exact, holds=four.exact <= 0.40),
        Threshold(text="exact match at 8L <= .15", value=eight.exact, holds=eight.exact <= 0.15),
    )


def _row(length: int, name: str, measured: Measurement) -> str:
    perplexity = math.exp(min(measured.nll, 50.0))
    figures = f"{measured.nll:.3f} | {perplexity:.3f} | {measured.digits:.3f} | {measured.exact:.3f}"
    return f"| {length} | {name} | {measured.documents} | {figures} |"


def report(folder: Path, *, documents: int, steps: int | None = None, seed: int | None = None) -> str:
    """The thresholds and the table of measurements as Markdown.

    There are `documents` documents in a row without scaling, and 80 at most in a row with it.
    """
    torch.set_num_threads(1)
    examiner = Examiner(folder)
    sets = {length: examiner.documents(length, documents) for length in (WINDOW, 4 * WINDOW, 8 * WINDOW)}
    plain = {length: examiner.score("none", chosen) for length, chosen in sets.items()}
    rows = [_row(length, "none", measured) for length, measured in plain.items()]
    for length in (4 * WINDOW, 8 * WINDOW):
        few = sets[length][:80]
        rows += [_row(length, name, examiner.score(name, few)) for name in BASELINE_NAMES if name != "none"]
        rows.append(_row(length, "yarn, own attention factor", examiner.score("yarn", few, own_factor=True)))
    verdicts = [
        f"| {demand.text} | {demand.value:.3f} | {'yes' if demand.holds else 'NO'} |"
        for demand in thresholds(*plain.values())
    ]
    title = f"Training: {steps} steps, seed {seed}." if steps is not None else "Training: not known."
    return "\n".join(
        [
            f"{title} Validation documents of seed {SEED}, one needle each.",
            "",
            "| demand | measured | holds |",
            "|---|---|---|",
            *verdicts,
            "",
            "| tokens | baseline | documents | NLL, nats per token | perplexity | digit accuracy | exact match |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures a pocket model.")
    parser.add_argument("model", type=Path, help="folder of the model")
    parser.add_argument("--documents", type=int, default=200)
    options = parser.parse_args()
    print(report(options.model, documents=options.documents))


if __name__ == "__main__":
    main()
