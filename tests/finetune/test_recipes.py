"""Which settings a job starts from."""

import json
from pathlib import Path

import pytest

from evaluation.models.source import ModelSource, resolve_model
from finetune.config import KINDS, FinetuneSettings, RecipeName
from finetune.errors import InvalidFinetuneSettings
from finetune.recipes import settings_of
from finetune.rows import check_rows, row_tokens, training_tokens
from ropewalk.rope.config import RopeConfig

LARGE: dict[str, object] = {"num_hidden_layers": 32, "hidden_size": 4096, "vocab_size": 128_256}


def _source(directory: Path, config: dict[str, object]) -> ModelSource:
    (directory / "config.json").write_text(json.dumps(config))
    rope = RopeConfig(rope_theta=5e5, rotary_dim=128, original_max_position_embeddings=8192)
    return ModelSource(name="large", path=directory, rope=rope)


def test_a_tiny_model_gets_the_pocket_recipe() -> None:
    assert settings_of({}, "auto", resolve_model("pocket"), target_length=1024) == FinetuneSettings()


@pytest.mark.parametrize("config", [LARGE, {"text_config": LARGE}, {"n_layer": 12}])
def test_any_other_model_gets_rows_of_its_original_length_alone(tmp_path: Path, config: dict[str, object]) -> None:
    settings = settings_of({}, "auto", _source(tmp_path, config), target_length=131_072)
    lengths = {"original_length": 8192, "target_length": 131_072}
    kinds = [kind for kind in KINDS if settings.rows_of(kind)]
    assert kinds == ["short", "skipped"]
    assert {row_tokens(settings, kind, **lengths) for kind in kinds} == {8192}
    assert training_tokens(settings, settings.steps, **lengths) == pytest.approx(1e9, rel=1e-3)
    assert settings == settings_of({}, "one_gpu", _source(tmp_path, config), target_length=131_072)


@pytest.mark.parametrize("target", [8193, 8200, 16_384])
def test_one_gpu_fits_every_target_length(tmp_path: Path, target: int) -> None:
    settings = settings_of({}, "one_gpu", _source(tmp_path, LARGE), target_length=target)
    check_rows(settings, original_length=8192, target_length=target)


def test_what_was_released_is_2250_steps_of_32_rows(tmp_path: Path) -> None:
    settings = settings_of({}, "published", _source(tmp_path, LARGE), target_length=131_072)
    assert (settings.steps, settings.rows_per_step, settings.warmup_steps, settings.weight_decay) == (2250, 32, 40, 0)
    assert [settings.loss_share(kind) * 32 for kind in KINDS] == pytest.approx([4, 14, 14, 0])


def test_the_papers_rows(tmp_path: Path) -> None:
    settings = settings_of({}, "paper", _source(tmp_path, LARGE), target_length=131_072)
    rows = (settings.short_sequences_per_step, settings.middle_sequences_per_step, settings.long_documents_per_step)
    assert rows == (19, 19, 26)
    assert settings.learning_rate == 2e-5
    assert settings.steps * settings.rows_per_step * 131_072 == pytest.approx(10e9, rel=1e-3)
    assert settings.loss_share("short") == pytest.approx(0.3)


@pytest.mark.parametrize("name", ["pocket", "paper", "published"])
def test_skipped_rows_beside_the_recipes_own_leave_half_to_short_ones(tmp_path: Path, name: RecipeName) -> None:
    source = _source(tmp_path, LARGE)
    settings = settings_of({"skipped_rows_per_step": 4}, name, source, target_length=16_384)
    before = settings_of({}, name, source, target_length=16_384)
    assert settings.loss_share("short") == pytest.approx(0.5)
    assert settings.loss_share("long") / settings.loss_share("skipped") == pytest.approx(before.long_loss_share / 0.5)
    with pytest.raises(InvalidFinetuneSettings, match="must be below 1"):
        settings_of({"skipped_rows_per_step": 4, "skipped_loss_share": 0.9}, name, source, target_length=16_384)


@pytest.mark.parametrize("name", ["pocket", "one_gpu", "paper", "published"])
def test_long_and_skipped_rows_in_turn_need_no_shares_of_each_other(tmp_path: Path, name: RecipeName) -> None:
    given = {"long_documents_per_step": 1, "skipped_rows_per_step": 4, "long_every": 4}
    settings = settings_of(given, name, _source(tmp_path, LARGE), target_length=16_384)
    alone = settings_of(
        {"long_documents_per_step": 1, "skipped_rows_per_step": 0}, name, _source(tmp_path, LARGE), target_length=16_384
    )
    assert settings.loss_share("long", 3) == pytest.approx(alone.loss_share("long"))
    assert settings.loss_share("skipped", 3) == settings.loss_share("long", 0) == 0


def test_what_the_user_sets_comes_first_and_a_default_warm_up_fits(tmp_path: Path) -> None:
    source = _source(tmp_path, LARGE)
    settings = settings_of({"steps": 3, "learning_rate": 1e-4}, "paper", source, target_length=131_072)
    assert (settings.steps, settings.warmup_steps, settings.learning_rate) == (3, 3, 1e-4)
    assert settings_of({}, "pocket", source, target_length=1024) == FinetuneSettings()


@pytest.mark.parametrize(
    ("workers", "rows"), [(1, (26, 19, 19)), (4, (24, 20, 20)), (8, (24, 16, 16)), (64, (64, 64, 64))]
)
def test_sharded_rows_fit_the_workers(tmp_path: Path, workers: int, rows: tuple[int, int, int]) -> None:
    source, given = _source(tmp_path, LARGE), {"workers": workers, "sharding": "fsdp"}
    settings = settings_of(given, "paper", source, target_length=131_072)
    assert (settings.rows_of("long"), settings.rows_of("middle"), settings.rows_of("short")) == rows


def test_sharding_changes_no_rows_that_were_given_and_makes_none_where_there_were_none(tmp_path: Path) -> None:
    given = {"workers": 4, "sharding": "fsdp", "long_documents_per_step": 8}
    settings = settings_of(given, "pocket", _source(tmp_path, LARGE), target_length=1024)
    assert (settings.rows_of("long"), settings.rows_of("middle"), settings.rows_of("short")) == (8, 0, 4)
    with pytest.raises(InvalidFinetuneSettings, match="multiple of workers, but got 6 rows, workers=4"):
        settings_of({**given, "long_documents_per_step": 6}, "pocket", _source(tmp_path, LARGE), target_length=1024)
