"""What the demo leaves behind: files, and a table on the terminal."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from api.drawing.search import HeatMapRow, draw_needle_heat_map, draw_search
from ropewalk.client.sync import Client
from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.evaluation import EvaluationRow
from ropewalk.wire.jobs import JobResource

LENGTHS = (256, 512, 768, 1024)  # tokens; the first is L, the last L'
EVALUATION_DOCUMENTS = 40
LEFT_BEHIND = (
    "factors.json",
    "checkpoint",
    "factors.png",
    "best-so-far.png",
    "race.png",
    "needles.png",
    "needle-heat-map.png",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoReport:
    """What the demo leaves behind."""

    directory: Path
    search_id: str
    statement: str
    rows: tuple[EvaluationRow, ...]
    seconds: float

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "directory": str(self.directory),
            "search_id": self.search_id,
            "statement": self.statement,
            "rows": [row.model_dump(exclude={"by_depth"}) for row in self.rows],
            "seconds": round(self.seconds, 1),
        }


def keep(
    client: Client,
    search: JobResource,
    finetune: JobResource,
    rows: Sequence[EvaluationRow],
    directory: Path,
) -> None:
    """The factor file, the checkpoint and the pictures."""
    file = FactorFile.from_json(client.export(search.id))
    (directory / "factors.json").write_text(file.to_json(), encoding="utf-8")
    checkpoint = directory / "checkpoint"
    shutil.rmtree(checkpoint, ignore_errors=True)
    client.download(finetune.id, directory)
    draw_search(directory, client.pictures(search.id))
    _draw_needles(file, rows, directory)


def _draw_needles(file: FactorFile, rows: Sequence[EvaluationRow], directory: Path) -> None:
    best_baseline = file.validation.best_baseline if file.validation is not None else "yarn"
    names = dict.fromkeys(("none", "pi", best_baseline, "found factors", "fine-tuned"))
    heat = [
        HeatMapRow(name=row.name, length=row.length, by_depth=tuple((depth, exact) for depth, _, exact in row.by_depth))
        for name in names
        for row in rows
        if row.name == name
    ]
    draw_needle_heat_map(directory / "needle-heat-map.png", heat)


def show(report: DemoReport, console: Console) -> None:
    """The table, the verdict and where the files are."""
    short, long = LENGTHS[0], LENGTHS[-1]
    table = Table(title=f"{EVALUATION_DOCUMENTS} held-out needle documents a length; NLL in nats per answer token")
    table.add_column("")
    for length in (short, long):
        for column in ("NLL", "perplexity", "exact match"):
            table.add_column(f"{column} at {length}", justify="right")
    by_key = {(row.name, row.length): row for row in report.rows}
    for name in dict.fromkeys(row.name for row in report.rows):
        cells = [cell for length in (short, long) for cell in _cells(by_key[name, length])]
        table.add_row(name, *cells, style="bold" if name in ("found factors", "fine-tuned") else None)
    console.print(table)
    console.print(report.statement)
    for path in LEFT_BEHIND:
        console.print(f"  {report.directory / path}", soft_wrap=True)
    console.print(f"done in {report.seconds:.0f} s")


def _cells(row: EvaluationRow) -> tuple[str, str, str]:
    return f"{row.nll:.3f}", f"{row.perplexity:.3f}", f"{100 * row.exact_match:.1f} %"
