"""The report of one evaluation: a single HTML page that needs nothing else, no network and no script."""

import importlib.resources
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from api.report.charts import Axis, HeatCell, Line, heat_map, line_chart, tokens
from api.report.tables import (
    HIGHLIGHTED,
    NOTHING,
    Column,
    contender,
    length_of,
    mark_of,
    nats,
    percent,
    share,
    table,
    title_of,
    two_places,
)
from ropewalk.version import ROPEWALK_VERSION
from ropewalk.wire.evaluation import EvaluationReport, EvaluationRow
from ropewalk.wire.jobs import JobResource
from service.evaluations.figure import Figure, Unit
from service.evaluations.measure import Measure
from service.evaluations.measures import MEASURES

DEPTH_BINS = 5


def evaluation_page(job: JobResource) -> str:
    """The page of an evaluation that has succeeded."""
    report = job.report(EvaluationReport)
    names = tuple(dict.fromkeys(row.name for row in report.rows))
    parts = [_summary(report, names)]
    for measure in MEASURES.values():
        parts.append(_measured(measure, report, names))
        if (section := _extras(measure).section) is not None:
            parts.append(section(report, names))
    style = importlib.resources.files("api.report").joinpath("page.css").read_text(encoding="utf-8")
    title = f"{report.model}: {tokens(report.original_length)} to {tokens(report.target_length)} tokens"
    when = "" if job.finished_at is None else f", {job.finished_at:%Y-%m-%d %H:%M} UTC"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f"<h1>{escape(title)}</h1><p>Evaluation {escape(job.id)}{when}, Ropewalk {ROPEWALK_VERSION}. "
        "Up to L tokens everyone runs on the original RoPE, past it on their own factors.</p>"
        f"{''.join(parts)}{_settings(job)}</main></body></html>\n"
    )


def _section(title: str, note: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(note)}</p>{''.join(parts)}</section>"


def _beside(parts: Sequence[tuple[str, str]], names: Sequence[str]) -> str:
    """Charts and tables with their titles side by side, under one legend."""
    legend = "".join(f"<span>{contender(name)}</span>" for name in names)
    drawn = "".join(f"<div><h3>{escape(title)}</h3>{part}</div>" for title, part in parts)
    return f'<div class="legend">{legend}</div><div class="beside">{drawn}</div>'


@dataclass(frozen=True, kw_only=True, slots=True)
class _Writing:
    """How a unit is written: in tables, and at the ticks of an axis."""

    table: Callable[[float], str]
    tick: Callable[[float], str]
    logarithmic: bool = False


_UNITS: Mapping[Unit, _Writing] = {
    "nats": _Writing(table=nats, tick=lambda value: f"{value:.3g}", logarithmic=True),
    "perplexity": _Writing(table=two_places, tick=lambda value: f"{value:.3g}", logarithmic=True),
    "share": _Writing(table=share, tick=lambda value: f"{100 * value:.0f} %"),
    "percent": _Writing(table=percent, tick=lambda value: f"{value:.0f}"),
}


def _column(figure: Figure, report: EvaluationReport, length: int, title: str) -> Column:
    values = {name: value for (name, of), value in figure.values(report).items() if of == length}
    best = min if figure.less_is_better else max
    return Column(title=title, values=values, write=_UNITS[figure.unit].table, best=best)


def _figure(figure: Figure, report: EvaluationReport, names: Sequence[str]) -> tuple[str, str]:
    """Its title, and its chart (where there are lengths to draw it over) above its table."""
    values, writing = figure.values(report), _UNITS[figure.unit]
    lengths = sorted({length for _, length in values})
    axis = Axis(
        label=figure.axis,
        write=writing.tick,
        logarithmic=writing.logarithmic,
        low=figure.low,
        high=figure.high,
        level=None if figure.level is None else figure.level(report),
    )
    lines = _lines(names, values)
    chart = line_chart(lines, axis, switch=report.original_length) if len(lengths) > 1 and lines else ""
    return figure.title, chart + table(names, [_column(figure, report, one, tokens(one)) for one in lengths])


def _lines(names: Sequence[str], values: Mapping[tuple[str, int], float]) -> list[Line]:
    """Found factors and the fine-tuned model in front of the others."""
    lines = []
    for name in names:
        points = sorted((length, value) for (of, length), value in values.items() if of == name)
        if points:
            lines.append(Line(name=title_of(name), mark=mark_of(name), points=tuple(points)))
    return lines


# -- sections --------------------------------------------------------------------------------------------------------


def _summary(report: EvaluationReport, names: Sequence[str]) -> str:
    columns = []
    for measure in MEASURES.values():
        if not getattr(report, measure.results[0]):
            continue
        for figure in measure.figures:
            if figure.glance is not None:
                longest = max(length for _, length in figure.values(report))
                columns.append(_column(figure, report, longest, f"{figure.glance} at {tokens(longest)}"))
        if (column := _extras(measure).summary) is not None:
            columns.append(column(report))
    return _section("At a glance", "Best in green. NLL is in nats per answer token.", table(names, columns))


def _effective(report: EvaluationReport, title: str = "effective length") -> Column:
    return Column(title=title, values=dict(report.effective_lengths), write=length_of)


def _accuracy_kept(report: EvaluationReport) -> Column:
    kept = {row.name: row.kept for row in report.retention if row.measure == "next-token accuracy"}
    return Column(title="accuracy kept at L", values=kept, write=percent, best=None)


def _measured(measure: Measure, report: EvaluationReport, names: Sequence[str]) -> str:
    """A measure's section, its figures and its extras; nothing where it was not asked for."""
    if not getattr(report, measure.results[0]):
        return ""
    parts = [_figure(figure, report, names) for figure in measure.figures]
    extras = _extras(measure)
    if extras.panel is not None:
        parts.append(extras.panel(report, names))
    details = "" if extras.details is None else extras.details(report, names)
    return _section(measure.title, measure.note(report), _beside(parts, names) if parts else "", details)


def _effective_lengths(report: EvaluationReport, names: Sequence[str]) -> tuple[str, str]:
    return "Effective length", table(names, [_effective(report, "tokens")])


def _heat_maps(report: EvaluationReport, names: Sequence[str]) -> str:
    maps = "".join(
        f"<div><h3>{contender(name)}</h3>{_heat_map([row for row in report.rows if row.name == name])}</div>"
        for name in names
    )
    note = (
        "Documents answered exactly, by length (columns) and by the depth of the needle (rows), 0 % at the beginning."
    )
    return _section("Needles by length and depth", note, f'<div class="maps">{maps}</div>')


def _heat_map(rows: Sequence[EvaluationRow]) -> str:
    bins = [f"{100 * b // DEPTH_BINS}-{100 * (b + 1) // DEPTH_BINS} %" for b in range(DEPTH_BINS)]
    columns = {tokens(row.length): [_cell(row, place) for place in range(DEPTH_BINS)] for row in rows}
    return heat_map(columns, bins)


def _cell(row: EvaluationRow, place: int) -> HeatCell:
    inside = [(nll, exact) for depth, nll, exact in row.by_depth if _bin(depth) == place]
    if not inside:
        return HeatCell(share=None, text="", title="no document")
    exact_share = sum(exact for _, exact in inside) / len(inside)
    mean = sum(nll for nll, _ in inside) / len(inside)
    title = f"{row.length} tokens: {len(inside)} documents, {share(exact_share)} exact, NLL {nats(mean)}"
    return HeatCell(share=exact_share, text=f"{100 * exact_share:.0f}", title=title)


def _bin(depth: float) -> int:
    return min(int(depth * DEPTH_BINS), DEPTH_BINS - 1)


def _every_task(report: EvaluationReport, names: Sequence[str]) -> str:
    tasks = tuple(report.ruler[0].scores)
    tables = "".join(
        f"<h3>{tokens(length)} tokens</h3>"
        + table(names, [Column(title=task, values=_task(report, task, length), write=percent) for task in tasks])
        for length in sorted({row.length for row in report.ruler})
    )
    return f"<details><summary>Every task at every length</summary>{tables}</details>"


def _task(report: EvaluationReport, task: str, length: int) -> dict[str, float | None]:
    return {row.name: row.scores.get(task) for row in report.ruler if row.length == length}


def _retention(report: EvaluationReport, names: Sequence[str]) -> str:
    if not report.retention:
        return ""
    rows = "".join(
        f'<tr><td>{contender(row.name)}</td><td class="left">{escape(row.measure)}</td>'
        f"<td>{NOTHING if row.length is None else tokens(row.length)}</td><td>{row.before:.4g}</td>"
        f'<td>{row.after:.4g}</td><td class="left">{_kept(row.kept)}</td></tr>'
        for row in report.retention
        if row.name in HIGHLIGHTED
    )
    if not rows:
        return ""
    head = '<th></th><th class="left">measure</th><th>tokens</th><th>base</th><th>after</th><th class="left">kept</th>'
    table = f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    note = "What is left of the base model at lengths it was trained for, in percent; above 100 % it has become better."
    return _section("Short-context retention", note, table)


def _kept(kept: float | None) -> str:
    if kept is None:
        return NOTHING
    return f'<span class="bar" style="width:{max(min(kept, 120.0), 0.0):.0f}px"></span>{percent(kept)}'


def _harness(report: EvaluationReport, names: Sequence[str]) -> str:
    measured = tuple(dict.fromkeys(row.name for row in report.harness))
    keys = dict.fromkeys((row.task, row.metric, row.higher_is_better) for row in report.harness)
    columns = [
        Column(
            title=f"{task}: {metric}",
            values={row.name: row.value for row in report.harness if (row.task, row.metric) == (task, metric)},
            write=lambda value: f"{value:.4f}",
            best=max if higher else min,
        )
        for task, metric, higher in keys
    ]
    return table(measured, columns)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Extras:
    """What the page shows of a measure in addition to its figures."""

    summary: Callable[[EvaluationReport], Column] | None = None
    """A column of the table at a glance."""
    panel: Callable[[EvaluationReport, Sequence[str]], tuple[str, str]] | None = None
    """A title and a part beside the figures."""
    details: Callable[[EvaluationReport, Sequence[str]], str] | None = None
    """At the end of the measure's section."""
    section: Callable[[EvaluationReport, Sequence[str]], str] | None = None
    """A section of its own after the measure's."""


_EXTRAS: Mapping[str, _Extras] = {
    "needles": _Extras(section=_heat_maps),
    "ruler": _Extras(summary=_effective, panel=_effective_lengths, details=_every_task),
    "text": _Extras(summary=_accuracy_kept, section=_retention),
    "harness": _Extras(details=_harness),
}


def _extras(measure: Measure) -> _Extras:
    return _EXTRAS.get(measure.name, _Extras())


def _settings(job: JobResource) -> str:
    spec = {name: value for name, value in job.spec.items() if name != "factors"}
    text = escape(json.dumps(spec, indent=2))
    return f"<details><summary>Settings of this evaluation</summary><pre>{text}</pre></details>"
