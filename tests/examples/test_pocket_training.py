"""The training script and its parts: it runs from start to end, learns, and never sees held-out text."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from evaluation.documents.corpus import load_corpus
from evaluation.documents.keys import keys_of
from evaluation.documents.needle import Split
from evaluation.documents.splitting import window_hashes
from examples.pocket import train
from examples.pocket.muon import Muon, orthogonalise
from examples.pocket.sequences import ANSWER_WEIGHT, DIGITS, SequenceMaker, make_sequences
from examples.pocket.text import training_texts

MODEL = Path(train.__file__).parent / "model"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sequences() -> SequenceMaker:
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    text = np.asarray(tokenizer.encode(load_corpus(None).split_text("train")[:30_000]), dtype=np.uint16)
    keys = keys_of("train")[:50]
    return make_sequences(tokenizer.encode, text, keys, len(tokenizer))


def test_trains_from_start_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = "--steps 2 --processes 1 --text-characters 700000 --documents 0"
    train.main([*few.split(), "--output", str(tmp_path)])
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert "step     1/2" in capsys.readouterr().out
    assert len(tokenizer) == model.config.vocab_size
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads((MODEL / "config.json").read_text())


def test_same_seed_same_weights(sequences: SequenceMaker, tmp_path: Path) -> None:
    def weights(seed: int) -> torch.Tensor:
        settings = train.Settings(
            steps=20, seed=seed, rope_theta=train.ROPE_THETA, processes=1, work=tmp_path, output=tmp_path
        )
        trainer = train.Trainer(settings, 0, sequences)
        trainer.step(0)
        return trainer.model.get_parameter("model.embed_tokens.weight").detach().clone()

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_no_held_out_text_is_learnt() -> None:
    reference = load_corpus(None)
    learnt = np.unique(window_hashes("".join(training_texts(1_500_000))))
    splits: tuple[Split, ...] = ("search", "validation")
    for split in splits:
        held_out = window_hashes(reference.split_text(split))
        # Where two texts meet a window may arise that neither holds; inside them none may be shared.
        assert np.isin(held_out, learnt).sum() == 0


def test_a_needle_sequence_asks_what_it_states(sequences: SequenceMaker) -> None:
    rng = np.random.default_rng(0)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    asked = 0
    for _ in range(20):
        ids, weights = (row[0] for row in sequences.batch(rng, count=1, length=256, progress=0.9))
        assert ids.shape == weights.shape == (256,)
        answers = np.flatnonzero(weights == ANSWER_WEIGHT)
        assert len(answers) % DIGITS == 0
        for first in answers[::DIGITS]:
            value = "".join(tokenizer.batch_decode(ids[first : first + DIGITS].tolist()))
            assert value.isdigit()
            assert tokenizer.decode(ids[:first].tolist()).count(f"is {value}.\n") == 1
            asked += 1
    assert asked >= 5


def test_orthogonalise_brings_singular_values_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 32, 32), (2, 64, 24), (2, 24, 64)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape, generator=generator)))
        assert values.max() < 1.4
        assert values.median() > 0.6


def test_muon_descends() -> None:
    target = torch.eye(8)
    weight = torch.zeros(8, 8, requires_grad=True)
    optimiser = Muon([weight], momentum=0.95, weight_decay=0.0)
    losses = []
    for _ in range(40):
        weight.grad = None
        loss = (weight - target).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step(0.05)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]


def test_rate_and_curriculum() -> None:
    assert train.rate(0.0, 0) < train.rate(0.1, 39) == train.rate(0.55, 440) == 1.0
    assert train.rate(1.0, 799) == pytest.approx(0.03)
    assert [train.document_length(progress) for progress in (0.0, 0.1, 0.24, 0.25, 0.99)] == [64, 128, 128, 256, 256]
