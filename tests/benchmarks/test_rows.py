"""The benchmark of rows: arms are what their labels say, and a cell is trained, measured, kept and read back."""

from pathlib import Path

import pytest

from benchmarks.extend.rows.arms import ARMS, FULL, ORIGINAL_LENGTH, SEEDS, Arm, Cell, cells
from benchmarks.extend.rows.cell import Amounts, keep, kept, run_cell
from benchmarks.extend.rows.cost import compare
from benchmarks.extend.rows.measure import lengths_of
from benchmarks.extend.rows.report import report
from finetune.rows import check_rows, row_tokens

TARGET = 2048


@pytest.mark.parametrize("target", [TARGET, 4096])
@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.label)
def test_every_arm_has_the_share_of_a_full_steps_tokens_that_its_label_says(arm: Arm, target: int) -> None:
    settings = arm.settings(target_length=target, seed=0, device="cpu")
    check_rows(settings, original_length=ORIGINAL_LENGTH, target_length=target)
    tokens = settings.rows_of("skipped") * row_tokens(
        settings, "skipped", original_length=ORIGINAL_LENGTH, target_length=target
    )
    assert tokens == arm.long_tokens * 3 * target
    assert settings.loss_share("short") == pytest.approx(0.5 if "share" not in arm.label else 0.3)
    assert settings.long_every == 1 or f" {settings.long_every} steps" in arm.label


def test_cells_are_distinct_and_what_is_to_be_shown_comes_first() -> None:
    found = cells(("pocket", "./other"), (TARGET,), ("found", "yarn"), SEEDS, tuple(arm.label for arm in ARMS))
    assert len({cell.name for cell in found}) == len(found)
    ranks = {arm.label: arm.rank for arm in ARMS}
    assert [ranks[cell.arm] for cell in found] == sorted(ranks[cell.arm] for cell in found)
    assert FULL in {cell.arm for cell in found[:10]}
    assert lengths_of(TARGET) == (256, 512, 1024, 1536, 2048)


@pytest.mark.slow
def test_a_cell_is_trained_measured_kept_and_read_back(tmp_path: Path) -> None:
    cell = Cell(model="pocket", target_length=512, factors="yarn", arm="untrained", seed=0)
    outcome = run_cell(cell, tmp_path, "cpu", Amounts(documents=3, windows=2))
    assert [(one.length, len(one.nats)) for one in outcome.needles] == [(256, 3), (384, 3), (512, 3)]
    assert [(one.length, one.scored) for one in outcome.text] == [(256, 255), (512, 255)]
    assert outcome.needles[0].exact == (True, True, True)  # the pocket model retrieves within L
    results = tmp_path / "results.jsonl"
    keep(outcome, results)
    with results.open("a") as file:
        file.write('{"cell": {"model"')  # a run that was ended
    assert kept(results) == {cell.name: outcome}
    assert "### pocket, to 512 tokens, yarn factors, 120 steps, on cpu" in report(results)


@pytest.mark.slow
def test_every_arm_is_timed_in_every_round() -> None:
    found = compare([FULL, "skipped L, equal"], 512, 1)
    assert [len(seconds) for seconds in found.values()] == [1, 1]
    assert all(second > 0 for seconds in found.values() for second in seconds)
