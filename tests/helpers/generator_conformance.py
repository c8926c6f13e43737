"""The contract of :class:`workers.generator.Generator` as tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.documents.windows import TextWindow
from evaluation.scores.served_rope import ServedRope
from ropewalk.errors import InvalidRescaleFactors
from ropewalk.rope.scaling import Scaling
from tests.helpers.samples import IDENTITY, ORIGINAL_LENGTH, STRETCHED, TARGET_LENGTH, VOCABULARY
from workers.base import ScorerSettings
from workers.errors import DocumentTooLong, ScorerClosed, ScoringFailed
from workers.factory import make_generator
from workers.generator import Generator

ROPE = ServedRope(original_length=ORIGINAL_LENGTH, scaling=Scaling(STRETCHED))
PLAIN = ServedRope(original_length=ORIGINAL_LENGTH, scaling=Scaling(IDENTITY))


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(np.random.default_rng([seed, length]).integers(1, VOCABULARY, length).tolist())


def window(length: int, scored: int = 20) -> TextWindow:
    return TextWindow(id=f"text-{length}", token_ids=prompt(length), scored=scored)


class GeneratorConformance:
    """Subclass, and provide the fixtures `settings`, and `reference`: the same weights under a config by which
    transformers itself switches at L, at every forward pass, to the factors of `ROPE`."""

    @pytest.fixture
    def generator(self, settings: ScorerSettings) -> Iterator[Generator]:
        opened = make_generator(settings)
        yield opened
        opened.close()

    @pytest.mark.parametrize(
        "length", [1, ORIGINAL_LENGTH - 6, ORIGINAL_LENGTH, ORIGINAL_LENGTH + 1, 2 * ORIGINAL_LENGTH]
    )
    def test_tokens_are_those_of_no_cache(self, generator: Generator, reference: Any, length: int) -> None:
        """Within L, across it, and past it: by the factors that the length of the moment asks for."""
        written = list(prompt(length))
        while len(written) < length + 12:
            with torch.no_grad():
                token = int(reference(torch.tensor([written]), use_cache=False).logits[0, -1].argmax())
            if token == reference.config.eos_token_id:
                break
            written.append(token)
        assert generator.generate(ROPE, prompt(length), 12) == tuple(written[length:])

    def test_a_text_is_read_with_the_factors_of_its_length(self, generator: Generator, reference: Any) -> None:
        for length in (ORIGINAL_LENGTH, ORIGINAL_LENGTH + 1, TARGET_LENGTH):
            read = generator.read(ROPE, window(length))
            token_ids = torch.tensor([window(length).token_ids])
            with torch.no_grad():
                logits = reference(token_ids, use_cache=False).logits[0, -21:-1]
            nats = torch.nn.functional.cross_entropy(logits, token_ids[0, -20:], reduction="sum").item()
            assert read.nats == pytest.approx(nats, abs=2e-4)
            assert (read.tokens, read.window_id) == (20, f"text-{length}")
            assert read.correct == int((logits.argmax(-1) == token_ids[0, -20:]).sum())

    def test_calls_do_not_see_each_other(self, generator: Generator) -> None:
        first = generator.generate(ROPE, prompt(80), 8), generator.read(ROPE, window(80))
        other = generator.generate(PLAIN, prompt(80), 8), generator.read(PLAIN, window(80))
        assert (generator.generate(ROPE, prompt(80), 8), generator.read(ROPE, window(80))) == first
        assert other != first

    def test_within_the_original_length_the_long_factors_do_not_matter(self, generator: Generator) -> None:
        short = window(ORIGINAL_LENGTH)
        assert generator.read(ROPE, short) == generator.read(PLAIN, short)
        assert generator.generate(ROPE, prompt(20), 8) == generator.generate(PLAIN, prompt(20), 8)

    def test_the_attention_factor_matters_on_both_sides(self, generator: Generator) -> None:
        scaled = dataclasses.replace(ROPE, scaling=Scaling(STRETCHED, 1.3))
        for length in (ORIGINAL_LENGTH, TARGET_LENGTH):
            assert abs(generator.read(ROPE, window(length)).nats - generator.read(scaled, window(length)).nats) > 1e-3

    def test_what_cannot_be_done_is_refused(self, generator: Generator) -> None:
        with pytest.raises(DocumentTooLong, match=str(TARGET_LENGTH)):
            generator.generate(ROPE, prompt(TARGET_LENGTH - 3), 4)
        with pytest.raises(DocumentTooLong):
            generator.read(ROPE, window(TARGET_LENGTH + 1))
        with pytest.raises(ScoringFailed):
            generator.generate(ROPE, (), 4)
        with pytest.raises(ScoringFailed):
            generator.generate(ROPE, prompt(4), 0)
        few = dataclasses.replace(ROPE, scaling=Scaling.identity(3))
        with pytest.raises(InvalidRescaleFactors):
            generator.generate(few, prompt(4), 1)

    def test_closed_means_closed(self, settings: ScorerSettings) -> None:
        generator = make_generator(settings)
        generator.close()
        generator.close()
        with pytest.raises(ScorerClosed):
            generator.generate(ROPE, prompt(4), 1)
