"""Trains the pocket model: a Llama of under a million weights that finds needles within 256 tokens.

    python -m examples.pocket.train --seed 0 --output /tmp/pocket

Needs no network, no accelerator and no data beyond what a Linux machine with Python carries. README.md beside this file
says what the model is for; the report that the training writes says how well it retrieves.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from evaluation.documents.keys import keys_of
from examples.pocket.muon import Muon
from examples.pocket.sequences import SequenceMaker, make_sequences
from examples.pocket.text import VOCABULARY, encode_texts, train_tokenizer, training_texts

WINDOW = 256
ROPE_THETA = 10_000.0
TOKENS_PER_STEP = 4096
_MUON_RATE, _ADAM_RATE = 0.02, 4e-3
_WARMUP_STEPS = 40
_DECAY_FROM, _LAST_RATE = 0.55, 0.03
_CURRICULUM = ((0.10, 64), (0.25, 128), (1.01, WINDOW))
"""Documents of 64 tokens for the first 10 % of the steps, of 128 up to 25 %, then of the whole window."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    steps: int
    seed: int
    rope_theta: float
    processes: int
    work: Path
    output: Path


def new_model(seed: int, rope_theta: float = ROPE_THETA) -> LlamaForCausalLM:
    """An untrained model; 32 dimensions per head give 16 RoPE pairs."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=WINDOW,
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)  # type: ignore[no-untyped-call]


def rate(progress: float, step: int) -> float:
    """The share of the full learning rate at `progress` in [0, 1]: warm-up, a plateau, then a straight line down."""
    warmup = min(1.0, (step + 1) / _WARMUP_STEPS)
    down = max(0.0, (progress - _DECAY_FROM) / (1 - _DECAY_FROM))
    return warmup * (1 - (1 - _LAST_RATE) * down)


def document_length(progress: float) -> int:
    return next(length for until, length in _CURRICULUM if progress < until)


def weighted_loss(model: LlamaForCausalLM, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted sum of negative log-likelihoods of tokens 1.. and the sum of their weights."""
    logits = model(input_ids=ids).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    targets = weights[:, 1:].flatten()
    return (losses * targets).sum(), targets.sum()


class Trainer:
    """One of the data-parallel processes. The documents of a step do not depend on how many processes share them."""

    def __init__(self, settings: Settings, rank: int, sequences: SequenceMaker) -> None:
        self._settings, self._rank, self._sequences = settings, rank, sequences
        self.model = new_model(settings.seed, settings.rope_theta)
        self._parameters = list(self.model.parameters())
        hidden = [p for name, p in self.model.named_parameters() if p.ndim == 2 and "embed_tokens" not in name]
        ids = {id(p) for p in hidden}
        others = [p for p in self._parameters if id(p) not in ids]
        self._muon = Muon(hidden, momentum=0.95, weight_decay=0.01)
        self._adam = torch.optim.AdamW(others, lr=_ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0)

    def step(self, step: int) -> float:
        """One update; the weighted mean loss in nats per token over all processes."""
        progress = step / self._settings.steps
        ids, weights = self._documents(step, progress)
        self.model.zero_grad()
        loss, total = weighted_loss(self.model, ids, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        mean = self._average_gradients(loss.detach(), total)
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        factor = rate(progress, step)
        self._muon.step(_MUON_RATE * factor)
        self._adam.param_groups[0]["lr"] = _ADAM_RATE * factor
        self._adam.step()
        return mean

    def _documents(self, step: int, progress: float) -> tuple[Tensor, Tensor]:
        length = document_length(progress)
        slots = range(self._rank, TOKENS_PER_STEP // length, self._settings.processes)
        rngs = [np.random.default_rng(np.random.SeedSequence([self._settings.seed, step, slot])) for slot in slots]
        drawn = [self._sequences.batch(rng, count=1, length=length, progress=progress) for rng in rngs]
        ids, weights = (np.concatenate(part) for part in zip(*drawn, strict=True))
        return torch.from_numpy(ids), torch.from_numpy(weights)

    def _average_gradients(self, loss: Tensor, total: Tensor) -> float:
        """Turns every process's sums into the one mean over all documents of the step."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        flat = torch.cat([*(g.flatten() for g in gradients), loss.view(1), total.view(1)])
        if self._settings.processes > 1:
            dist.all_reduce(flat)
        flat = flat / flat[-1]
        first = 0
        for gradient in gradients:
            gradient.copy_(flat[first : first + gradient.numel()].view_as(gradient))
            first += gradient.numel()
        return float(flat[-2])


def train(rank: int, settings: Settings) -> None:
    """The body of one process; process 0 prints and saves."""
    torch.set_num_threads(1)
    if settings.processes > 1:
        rendezvous = f"file://{settings.work / 'rendezvous'}"
        dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=settings.processes)
    tokenizer = AutoTokenizer.from_pretrained(settings.output)
    text = np.load(settings.work / "text.npy")
    sequences = make_sequences(tokenizer.encode, text, keys_of("train"), VOCABULARY)
    trainer = Trainer(settings, rank, sequences)
    started = time.monotonic()
    for step in range(settings.steps):
        loss = trainer.step(step)
        if rank == 0 and (step % 20 == 0 or step == settings.steps - 1):
            print(f"step {step:5d}/{settings.steps}  loss {loss:.3f}  {time.monotonic() - started:.0f} s", flush=True)
    if rank == 0:
        trainer.model.save_pretrained(settings.output)
        (settings.output / "generation_config.json").unlink(missing_ok=True)
        (settings.output / "model.safetensors").chmod(0o644)  # safetensors makes files that their owner alone can read
    if settings.processes > 1:
        dist.destroy_process_group()


def prepare(settings: Settings, text_characters: int) -> None:
    """Writes the tokenizer to the output folder and the tokenised text to the working folder."""
    texts = training_texts(text_characters)
    tokenizer = train_tokenizer(texts, keys_of("train"))
    tokenizer.save_pretrained(settings.output)
    ids = encode_texts(tokenizer, texts)
    np.save(settings.work / "text.npy", ids)
    print(f"{sum(map(len, texts)):,} characters of text, {len(ids):,} tokens", flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains the pocket model.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model, made if missing")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rope-theta", type=float, default=ROPE_THETA, help="base of the rotary embedding")
    parser.add_argument("--processes", type=int, default=2, help="data-parallel processes, one thread each")
    parser.add_argument("--text-characters", type=int, default=12_000_000, help="how much text to learn from")
    parser.add_argument("--documents", type=int, default=200, help="documents per row of the report; 0: no report")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        settings = Settings(
            steps=options.steps,
            seed=options.seed,
            rope_theta=options.rope_theta,
            processes=options.processes,
            work=Path(work),
            output=options.output.resolve(),
        )
        prepare(settings, options.text_characters)
        if settings.processes > 1:
            spawn(train, args=(settings,), nprocs=settings.processes)  # type: ignore[no-untyped-call]
        else:
            train(0, settings)
    if options.documents:
        from examples.pocket.report import report

        print(report(settings.output, documents=options.documents, steps=settings.steps, seed=settings.seed))


if __name__ == "__main__":
    main()
