"""Every range is kept at construction; the schedule is what the docstring says."""

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.config import KINDS, FinetuneSettings
from finetune.errors import FinetuneError, InvalidFinetuneSettings


def test_the_defaults_are_valid() -> None:
    assert FinetuneSettings().steps >= 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 1.5),
        ("steps", True),
        ("warmup_steps", -1),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate", 1.1),
        ("final_learning_rate_fraction", 1.01),
        ("weight_decay", -0.1),
        ("clip", 0.0),
        ("clip", math.inf),
        ("long_documents_per_step", -1),
        ("skipped_rows_per_step", 4097),
        ("skipped_tokens", 0),
        ("skipped_gaps", 0),
        ("skipped_gaps", 17),
        ("skipped_places", "tail"),
        ("skipped_tail_share", 1.5),
        ("skipped_tail_tokens", 0),
        ("skipped_reach", 0),
        ("skipped_full_reach_share", -0.5),
        ("skipped_loss_share", 1.5),
        ("short_tokens", 0),
        ("middle_sequences_per_step", 4097),
        ("short_sequences_per_step", -1),
        ("rows_per_pass", 0),
        ("middle_loss_share", -0.1),
        ("text_repeats", 0.0),
        ("dtype", "float16"),
        ("gradient_checkpointing", True),
        ("workers", 0),
        ("sharding", "ddp"),
        ("optimizer", "sgd"),
        ("checkpoint_every", 0),
        ("lora_rank", -1),
        ("lora_alpha", 0.0),
        ("needle_fraction", 1.2),
        ("needles_per_document", 0),
        ("answer_weight", -1.0),
        ("long_loss_share", 2.0),
        ("seed", -1),
        ("seed", 2**32),
        ("device", "tpu"),
        ("threads", 0),
    ],
)
def test_a_value_outside_its_range_is_refused_with_the_value(field: str, value: Any) -> None:
    with pytest.raises(InvalidFinetuneSettings, match=f"{field} must be .*, but got {field}=") as caught:
        FinetuneSettings(**{field: value})
    assert repr(value) in str(caught.value)
    assert isinstance(caught.value, FinetuneError)
    assert caught.value.code == "INVALID_FINETUNE_SETTINGS"


def test_warm_up_cannot_outlast_the_training() -> None:
    with pytest.raises(InvalidFinetuneSettings, match=r"warmup_steps=6, steps=5"):
        FinetuneSettings(steps=5, warmup_steps=6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 5}, "rows of a step, 4, but got workers=5"),
        ({"workers": 2, "sharding": "fsdp"}, "the long rows of a step must be a multiple of workers, but got 3 rows"),
        ({"lora_rank": 4, "sharding": "fsdp"}, "lora_rank=4"),
        ({"optimizer": "adafactor", "workers": 3, "sharding": "fsdp"}, "optimizer='adafactor'"),
        ({"middle_sequences_per_step": 1, "long_loss_share": 0.8}, "must be at most 1, but got long_loss_share=0.8"),
        ({"long_documents_per_step": 0}, "must have long or skipped rows, but got long_documents_per_step=0"),
        (
            {"long_every": 2},
            "must be 1 without both long and skipped rows, but got long_every=2, .* skipped_rows_per_step=0",
        ),
        ({"long_every": 61}, "long_every must be at most steps, but got long_every=61, steps=60"),
        (
            {"skipped_rows_per_step": 3, "long_every": 4, "workers": 4, "long_documents_per_step": 2},
            "rows of a step, 3, but got workers=4",
        ),
        (
            {"skipped_rows_per_step": 1, "long_every": 4, "skipped_loss_share": 1.0},
            "^skipped_loss_share must be below 1, so that short rows count, but got skipped_loss_share=1.0$",
        ),
        ({"skipped_rows_per_step": 1}, "skipped_loss_share must be below 1, so that short rows count, but got long"),
        (
            {"skipped_rows_per_step": 1, "long_documents_per_step": 0, "skipped_loss_share": 1.0},
            "^skipped_loss_share must be below 1, so that short rows count, but got skipped_loss_share=1.0",
        ),
        (
            {"skipped_rows_per_step": 3, "skipped_loss_share": 0.3, "workers": 3, "sharding": "fsdp"},
            "the short rows of a step must be a multiple of workers, but got 1 rows",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidFinetuneSettings, match=message):
        FinetuneSettings(**given)


@pytest.mark.parametrize(
    ("rows", "shares"),
    [
        ((3, 0, 1, 0), (0.5, 0.0, 0.5, 0.0)),
        ((3, 0, 0, 0), (1.0, 0.0, 0.0, 0.0)),
        ((4, 3, 3, 0), (0.5, 0.3, 0.2, 0.0)),
        ((4, 3, 0, 0), (0.625, 0.375, 0.0, 0.0)),
        ((0, 0, 1, 4), (0.0, 0.0, 0.85, 0.15)),
        ((0, 0, 0, 4), (0.0, 0.0, 0.0, 1.0)),
        ((1, 1, 1, 4), (0.5, 0.3, 0.05, 0.15)),
    ],
)
def test_the_loss_shares_of_the_kinds_with_rows_add_up_to_one(
    rows: tuple[int, int, int, int], shares: tuple[float, float, float, float]
) -> None:
    settings = FinetuneSettings(
        long_documents_per_step=rows[0],
        middle_sequences_per_step=rows[1],
        short_sequences_per_step=rows[2],
        skipped_rows_per_step=rows[3],
        skipped_loss_share=0.15,
    )
    assert KINDS == ("long", "middle", "short", "skipped")
    assert [settings.loss_share(kind) for kind in KINDS] == pytest.approx(shares)


@given(
    rows=st.tuples(*[st.integers(0, 3)] * 4).filter(lambda rows: rows[0] or rows[3]),
    long_every=st.integers(1, 7),
    steps=st.integers(7, 40),
)
def test_the_rows_of_single_steps_add_up(rows: tuple[int, int, int, int], long_every: int, steps: int) -> None:
    """Long and skipped rows in turn: one step in `long_every` has the first, all others the second."""
    in_turn = long_every > 1 and rows[0] > 0 and rows[3] > 0
    settings = FinetuneSettings(
        steps=steps,
        long_documents_per_step=rows[0],
        middle_sequences_per_step=rows[1],
        short_sequences_per_step=rows[2],
        skipped_rows_per_step=rows[3],
        skipped_loss_share=0.15,
        long_every=long_every if in_turn else 1,
    )
    for kind in KINDS:
        at = [settings.rows_at(kind, step) for step in range(steps)]
        assert set(at) <= {0, settings.rows_of(kind)}
        assert sum(at) == settings.rows_of(kind) * settings.steps_with(kind, steps)
        expected = {"long": steps // long_every, "skipped": steps - steps // long_every}
        if settings.rows_of(kind):
            assert settings.steps_with(kind, steps) == (expected.get(kind, steps) if in_turn else steps)
    for step in range(steps):
        shares = [settings.loss_share(kind, step) for kind in KINDS]
        assert math.fsum(shares) == pytest.approx(1.0)
        assert all(settings.rows_at(kind, step) or share == 0 for kind, share in zip(KINDS, shares, strict=True))
        assert not in_turn or bool(settings.rows_at("long", step)) == ((step + 1) % long_every == 0)


def test_the_learning_rate_rises_linearly_and_falls_along_a_half_cosine() -> None:
    settings = FinetuneSettings(steps=101, warmup_steps=4, learning_rate=1e-3, final_learning_rate_fraction=0.1)
    rates = [settings.learning_rate_at(step) for step in range(101)]
    assert rates[:4] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
    assert rates[4] == pytest.approx(1e-3)
    assert rates[52] == pytest.approx(1e-3 * (0.1 + 0.9 / 2))  # half way down
    assert rates[100] == pytest.approx(1e-4)
    assert all(left >= right for left, right in itertools.pairwise(rates[4:]))


@pytest.mark.parametrize(("steps", "warmup_steps"), [(1, 0), (1, 1), (2, 1), (3, 3)])
def test_very_short_trainings_have_a_rate_at_every_step(steps: int, warmup_steps: int) -> None:
    settings = FinetuneSettings(steps=steps, warmup_steps=warmup_steps)
    assert all(0 < settings.learning_rate_at(step) <= settings.learning_rate for step in range(steps))
