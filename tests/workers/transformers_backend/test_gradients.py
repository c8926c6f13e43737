"""Gradients against finite differences of the scores themselves, and the trace they must not leave."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from evaluation.documents.needle import NeedleDocument
from ropewalk.errors import InvalidRescaleFactors
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.strategies.shape_space import shape_factors
from tests.helpers.samples import IDENTITY, ROPE, STRETCHED, TARGET_LENGTH, document, documents
from tests.helpers.scorer_conformance import score
from workers.base import DifferentiableScorer, Scorer, ScorerSettings, ScoringTask
from workers.errors import DocumentTooLong, ScorerClosed, ScorerUnavailable
from workers.factory import check_scorer, make_scorer
from workers.pool.scoring import ScoringPool
from workers.transformers_backend import passes, recomputing
from workers.transformers_backend.recomputing import recomputed_layers
from workers.transformers_backend.rotary import RotaryTable
from workers.worker import score_or_explain

POCKET = RopeConfig(rope_theta=1000.0, rotary_dim=32, original_max_position_embeddings=256)
# Strictly increasing and above 1, so that every factor may move a little either way.
RISING = RescaleFactors(tuple(1.01 * value for value in np.geomspace(1.0, 6.0, ROPE.num_pairs)))


def differentiable(settings: ScorerSettings) -> DifferentiableScorer:
    scorer = make_scorer(settings)
    assert isinstance(scorer, DifferentiableScorer)
    return scorer


def gradient(
    scorer: DifferentiableScorer, one: NeedleDocument, factors: RescaleFactors, attention_factor: float
) -> NDArray[np.float64]:
    (found,) = scorer.score_with_gradients(Scaling(factors, attention_factor), [one])
    assert found.gradient is not None
    return np.array(found.gradient)


def slopes(
    scorer: Scorer, one: NeedleDocument, factors: RescaleFactors, attention_factor: float
) -> NDArray[np.float64]:
    """Central differences of the plain score by each ln lambda_i, then by ln A, shape (n + 1,).

    Far from 0, angles of fast pairs turn much with little; steps of slow pairs must stand out from rounding.
    """
    steps = np.geomspace(3e-4, 5e-3, len(factors) + 1)

    def nats(move: NDArray[np.float64]) -> float:
        moved = RescaleFactors(tuple((factors.as_array() * np.exp(move[:-1])).tolist()))
        return score(scorer, [one], factors=moved, attention_factor=attention_factor * float(np.exp(move[-1])))[0].nats

    return np.array([nats(move) - nats(-move) for move in np.diag(steps)]) / (2.0 * steps)


@pytest.fixture(params=["transformers", "analytic"])
def settings(
    request: pytest.FixtureRequest, transformers_settings: ScorerSettings, analytic_settings: ScorerSettings
) -> ScorerSettings:
    return transformers_settings if request.param == "transformers" else analytic_settings


@pytest.fixture
def scorer(settings: ScorerSettings) -> Iterator[DifferentiableScorer]:
    opened = differentiable(settings)
    yield opened
    opened.close()


class TestContract:
    def test_nats_are_those_of_a_plain_score(self, scorer: DifferentiableScorer) -> None:
        mixed = (*documents(3, length=64), *documents(2), document(5, length=200, needles=3))
        plain = score(scorer, mixed, attention_factor=1.1)
        found = scorer.score_with_gradients(Scaling(STRETCHED, 1.1), mixed)
        for one, other in zip(found, plain, strict=True):
            assert one.nats == pytest.approx(other.nats, abs=1e-5 * one.tokens)
            assert dataclasses.replace(one, nats=0.0, gradient=None) == dataclasses.replace(other, nats=0.0)
            assert one.gradient is not None
            assert len(one.gradient) == ROPE.num_pairs + 1
            assert other.gradient is None

    def test_plain_scores_are_the_same_bits_before_and_after(self, scorer: DifferentiableScorer) -> None:
        before = score(scorer, documents(3, length=64), factors=IDENTITY)
        scorer.score_with_gradients(Scaling(STRETCHED, 1.2), documents(3))
        assert score(scorer, documents(3, length=64), factors=IDENTITY) == before

    def test_a_failed_call_leaves_the_scorer_usable(self, scorer: DifferentiableScorer) -> None:
        before = score(scorer, documents(1))
        with pytest.raises(InvalidRescaleFactors):
            scorer.score_with_gradients(Scaling.identity(3), documents(1))
        assert score(scorer, documents(1)) == before

    def test_companions_do_not_leak_into_a_gradient(self, scorer: DifferentiableScorer) -> None:
        many = documents(5, length=64)
        together = scorer.score_with_gradients(Scaling(STRETCHED, 1.1), many)
        for one, found in zip(many, together, strict=True):
            alone = gradient(scorer, one, STRETCHED, 1.1)
            assert found.gradient == pytest.approx(alone, abs=1e-5 * np.abs(alone).max())
        assert len({found.gradient for found in together}) == len(many)

    def test_what_score_refuses_is_refused(self, scorer: DifferentiableScorer) -> None:
        long = document(0, length=TARGET_LENGTH + 1)
        with pytest.raises(DocumentTooLong):
            scorer.score_with_gradients(Scaling(IDENTITY, 1.0), [long])
        assert scorer.score_with_gradients(Scaling(IDENTITY, 1.0), []) == ()
        scorer.close()
        with pytest.raises(ScorerClosed):
            scorer.score_with_gradients(Scaling(IDENTITY, 1.0), documents(1))


class TestFiniteDifferences:
    def test_of_the_formula(self, analytic_settings: ScorerSettings) -> None:
        scorer = differentiable(analytic_settings)
        for one in documents(3):
            assert gradient(scorer, one, RISING, 1.1) == pytest.approx(slopes(scorer, one, RISING, 1.1), abs=1e-6)

    def test_of_a_random_model_on_rows_of_several_needles(self, transformers_settings: ScorerSettings) -> None:
        scorer = differentiable(transformers_settings)
        one = document(0, length=100, needles=2)
        found = gradient(scorer, one, RISING, 1.1)
        assert np.abs(found).min() > 0.3
        assert found == pytest.approx(slopes(scorer, one, RISING, 1.1), rel=5e-3, abs=0.01)

    def test_of_a_document_whose_positions_jump(self, transformers_settings: ScorerSettings) -> None:
        scorer = differentiable(transformers_settings)
        one = replace(document(0, length=60), jumps=((20, 3), (41, 2)))
        found = gradient(scorer, one, RISING, 1.1)
        expected = slopes(scorer, one, RISING, 1.1)
        assert found[1:] == pytest.approx(expected[1:], rel=1e-2, abs=0.05)
        assert found[0] == pytest.approx(expected[0], rel=0.08)  # the fastest pair turns far within a difference
        assert np.abs(found - gradient(scorer, replace(one, jumps=()), RISING, 1.1)).max() > 0.1

    def test_of_the_pocket_model(self) -> None:
        settings = ScorerSettings(
            model="pocket", dtype="float32", target_length=512, original_length=256, threads=1, backend="transformers"
        )
        scorer = differentiable(settings)
        values = shape_factors(
            POCKET.num_pairs, 2.0, critical_pair=6.9, head_exponent=2.0, tail_multiple=1.2, tail_slope=0.5
        )
        factors = RescaleFactors(tuple((1.01 * values * np.linspace(1.0, 1.05, len(values))).tolist()))
        one = document(1, length=300)
        found = gradient(scorer, one, factors, 1.05)
        assert (np.abs(found) > 0.1).sum() > 8
        assert found == pytest.approx(slopes(scorer, one, factors, 1.05), rel=5e-3, abs=0.01)


class Interleaved(torch.nn.Module):
    """A rotary module that repeats every pair side by side."""

    inv_freq: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inv_freq", torch.ones(ROPE.num_pairs), persistent=False)
        self.attention_scaling = 1.0

    @torch.no_grad()
    def forward(self, hidden: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = (positions[..., None].float() * self.inv_freq).repeat_interleave(2, dim=-1)
        return angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling


def llama_rotary() -> torch.nn.Module:
    build: Any = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding
    config = transformers.LlamaConfig(
        hidden_size=2 * ROPE.rotary_dim,
        num_attention_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE.rope_theta},
    )
    module: torch.nn.Module = build(config)
    return module


@pytest.mark.parametrize("build", [llama_rotary, Interleaved])
def test_cos_and_sin_move_as_if_other_factors_were_written(build: Any) -> None:
    """Column by column and row by row, by what writing other factors makes of them; nothing is left behind."""
    module, tokens = build(), 40
    table, positions = RotaryTable(torch.nn.Sequential(module), ROPE), torch.arange(tokens)[None]
    hidden = torch.zeros(1, tokens, 1)
    weight = torch.randn(2, tokens, ROPE.rotary_dim, generator=torch.Generator().manual_seed(0))

    def total(factors: RescaleFactors, attention_factor: float, row: int) -> float:
        table.write(Scaling(factors, attention_factor))
        cos, sin = module(hidden, positions)
        return float((cos[0].double() * weight[row] - sin[0].double() * weight[1 - row]).sum())

    plain = total(RISING, 1.1, 0), total(RISING, 1.1, 1)
    with table.differentiable(rows=2) as shifts:
        cos, sin = module(hidden, positions)
        (found,) = torch.autograd.grad((cos * weight - sin * weight.flip(0)).sum(), shifts)
    for pair in (0, 3, ROPE.num_pairs):
        for row in (0, 1):
            assert found[row, pair].item() == pytest.approx(_slope(total, pair, row), rel=2e-2, abs=2e-2)
    assert (total(RISING, 1.1, 0), total(RISING, 1.1, 1)) == plain
    assert module(hidden, positions)[0].shape[0] == 1


def _slope(total: Any, pair: int, row: int, step: float = 1e-3) -> float:
    move = step * np.eye(ROPE.num_pairs + 1)[pair]
    up, down = (
        total(RescaleFactors(tuple((RISING.as_array() * np.exp(m[:-1])).tolist())), 1.1 * float(np.exp(m[-1])), row)
        for m in (move, -move)
    )
    return float((up - down) / (2.0 * step))


def test_shifts_of_zero_change_no_bit() -> None:
    module = llama_rotary()
    table = RotaryTable(torch.nn.Sequential(module), ROPE)
    for dtype in (torch.float32, torch.bfloat16):
        arguments = torch.zeros(1, 50, 1, dtype=dtype), torch.arange(50)[None]
        table.write(Scaling(STRETCHED, 1.15))
        plain = module(*arguments)
        with table.differentiable(rows=1):
            for before, inside in zip(plain, module(*arguments), strict=True):
                assert inside.dtype == dtype
                assert torch.equal(before, inside)


def test_recomputed_layers_give_the_same_gradient_and_are_left_as_they_were(tiny_model: Path) -> None:
    build: Any = transformers.LlamaForCausalLM
    model = build.from_pretrained(tiny_model).eval().requires_grad_(False)
    layers = model.model.layers
    before = [dict(vars(layer)) for layer in layers]
    table = RotaryTable(model, ROPE)

    def run() -> tuple[torch.Tensor, int]:
        runs: list[None] = []
        hook = layers[0].self_attn.register_forward_hook(lambda *_: runs.append(None))
        with table.differentiable(rows=1) as shifts:
            logits = model(torch.arange(1, 40)[None], use_cache=False).logits
            (found,) = torch.autograd.grad(logits[0, -1, 3], shifts)
        hook.remove()
        return found, len(runs)

    kept, once = run()
    with recomputed_layers(model):
        assert not any(layer.self_attn.training for layer in layers)
        recomputed, twice = run()
    assert (once, twice) == (1, 2)
    assert torch.equal(kept, recomputed)
    assert [dict(vars(layer)) for layer in layers] == before


def test_long_documents_are_recomputed_to_the_same_bits(
    transformers_settings: ScorerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = differentiable(transformers_settings)
    many = (*documents(2), *documents(3, length=48))
    kept = scorer.score_with_gradients(Scaling(STRETCHED, 1.1), many)
    entered: list[torch.nn.Module] = []

    def noted(model: torch.nn.Module) -> AbstractContextManager[None]:
        entered.append(model)
        return recomputed_layers(model)

    monkeypatch.setattr(passes, "recomputed_layers", noted)
    # Two layers of 32 units: 4 rows of 48 tokens are kept, and 4 of 256 are not.
    monkeypatch.setattr(recomputing, "_MOST_KEPT", 4 * 48 * 2 * 32)
    assert scorer.score_with_gradients(Scaling(STRETCHED, 1.1), many) == kept
    assert len(entered) == 1


class PlainScorer:
    """A scorer that cannot differentiate."""

    def __init__(self, scorer: Scorer) -> None:
        self.score = scorer.score
        self.close = scorer.close
        self.info = scorer.info


def test_gradients_of_a_scorer_that_has_none_are_refused_as_values(analytic_settings: ScorerSettings) -> None:
    plain = PlainScorer(make_scorer(analytic_settings))
    (found,) = score_or_explain(plain, Scaling(STRETCHED), documents(1), gradient=True)
    assert found == "gradients need a scorer that differentiates, but got backend=analytic"
    assert score_or_explain(plain, Scaling(STRETCHED), documents(1), gradient=False) == score(plain, documents(1))


def test_backends_that_differentiate_are_known_before_anything_is_opened() -> None:
    for backend in ("auto", "transformers", "analytic"):
        check_scorer(backend, tensor_parallel=1, gradients=True)
    with pytest.raises(
        ScorerUnavailable,
        match="the strategy needs a scorer that differentiates: transformers or analytic, but got backend=vllm",
    ):
        check_scorer("vllm", tensor_parallel=1, gradients=True)
    with pytest.raises(ScorerUnavailable, match="tensor_parallel=2"):
        check_scorer("auto", tensor_parallel=2, gradients=True)


@pytest.mark.usefixtures("ray_cluster")
def test_a_pool_brings_gradients_to_the_tasks_that_ask(analytic_settings: ScorerSettings) -> None:
    samples = documents(6, length=48)
    tasks = [
        ScoringTask(key=one.id, scaling=Scaling(STRETCHED, 1.1), document=one, gradient=number % 3 == 0)
        for number, one in enumerate(samples)
    ]
    with ScoringPool(analytic_settings, workers=1) as pool:
        found = {outcome.task_key: outcome.score for outcome in pool.run(tasks)}
    here = differentiable(analytic_settings)
    with_gradients = here.score_with_gradients(Scaling(STRETCHED, 1.1), samples)
    for task, expected in zip(tasks, with_gradients, strict=True):
        assert found[task.key] == (expected if task.gradient else dataclasses.replace(expected, gradient=None))
