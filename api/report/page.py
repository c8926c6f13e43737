"""The report of one evaluation: a single HTML page that needs nothing else, no network and no script."""

import importlib.resources
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from api.report.charts import Axis, Cell, Line, heat_map, line_chart, tokens
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
from api.wire.jobs import JobResource
from evaluation.ruler.tasks import TASKS
from search_space.version import ROPEWALK_VERSION
from service.evaluations.report import EvaluationReport, EvaluationRow

DEPTH_BINS = 5


def evaluation_page(job: JobResource) -> str:
    """The page of an evaluation that has succeeded."""
    report = job.report(EvaluationReport)
    names = tuple(dict.fromkeys(row.name for row in report.rows))
    parts = [_summary(report, names), _needles(report, names), _heat_maps(report, names)]
    parts += [_ruler(report, names), _text(report, names), _retention(report), _harness(report)]
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
class _Measure:
    """One number by (contender, length), and how it is shown."""

    title: str
    values: Mapping[tuple[str, int], float | None]
    axis: Axis
    write: Callable[[float], str]
    best: Callable[[Iterable[float]], float] = max


def _measure(measure: _Measure, names: Sequence[str], original_length: int) -> tuple[str, str]:
    """Its title, and its chart (where there are lengths to draw it over) above its table."""
    lengths = sorted({length for _, length in measure.values})
    columns = [
        Column(title=tokens(one), values=_at(measure.values, one), write=measure.write, best=measure.best)
        for one in lengths
    ]
    lines = _lines(names, measure.values)
    chart = line_chart(lines, measure.axis, switch=original_length) if len(lengths) > 1 and lines else ""
    return measure.title, chart + table(names, columns)


def _lines(names: Sequence[str], values: Mapping[tuple[str, int], float | None]) -> list[Line]:
    """Found factors and the fine-tuned model in front of the others."""
    lines = []
    for name in names:
        points = sorted((length, value) for (of, length), value in values.items() if of == name and value is not None)
        if points:
            lines.append(Line(name=title_of(name), mark=mark_of(name), points=tuple(points)))
    return lines


# -- sections --------------------------------------------------------------------------------------------------------


def _summary(report: EvaluationReport, names: Sequence[str]) -> str:
    longest = max(row.length for row in report.rows)
    needles = {row.name: row for row in report.rows if row.length == longest}
    columns = [
        Column(title=f"needle NLL at {tokens(longest)}", values=_of(needles, "nll"), write=nats, best=min),
        Column(title=f"exact match at {tokens(longest)}", values=_of(needles, "exact_match"), write=share),
    ]
    if report.ruler:
        furthest = max(row.length for row in report.ruler)
        averages = {row.name: row.average for row in report.ruler if row.length == furthest}
        columns.append(Column(title=f"RULER at {tokens(furthest)}", values=averages, write=percent))
        columns.append(Column(title="effective length", values=dict(report.effective_lengths), write=length_of))
    if report.text:
        furthest = max(row.length for row in report.text)
        perplexities = {row.name: row.perplexity for row in report.text if row.length == furthest}
        columns.append(
            Column(title=f"perplexity at {tokens(furthest)}", values=perplexities, write=two_places, best=min)
        )
        kept = {row.name: row.kept for row in report.retention if row.measure == "next-token accuracy"}
        columns.append(Column(title="accuracy kept at L", values=kept, write=percent, best=None))
    return _section("At a glance", "Best in green. NLL is in nats per answer token.", table(names, columns))


def _of(rows: Mapping[str, EvaluationRow], field: str) -> dict[str, float | None]:
    return {name: getattr(row, field) for name, row in rows.items()}


def _needles(report: EvaluationReport, names: Sequence[str]) -> str:
    nll = _Measure(
        title="NLL",
        values={(row.name, row.length): row.nll for row in report.rows},
        axis=Axis(label="NLL, nats per answer token", write=lambda value: f"{value:.3g}", logarithmic=True),
        write=nats,
        best=min,
    )
    exact = _Measure(
        title="Exact match",
        values={(row.name, row.length): row.exact_match for row in report.rows},
        axis=Axis(label="documents answered exactly", write=lambda v: f"{100 * v:.0f} %", low=0.0, high=1.0),
        write=share,
    )
    count = max(row.documents for row in report.rows)
    note = (
        f"{count} held-out documents per length with needles at stratified depths. NLL is of the answer's tokens, "
        "sum over count; a document is exact when each of them is the model's first choice."
    )
    parts = [_measure(one, names, report.original_length) for one in (nll, exact)]
    return _section("Needles", note, _beside(parts, names))


def _at(values: Mapping[tuple[str, int], float | None], length: int) -> dict[str, float | None]:
    return {name: value for (name, of), value in values.items() if of == length}


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


def _cell(row: EvaluationRow, place: int) -> Cell:
    inside = [(nll, exact) for depth, nll, exact in row.by_depth if _bin(depth) == place]
    if not inside:
        return Cell(share=None, text="", title="no document")
    exact_share = sum(exact for _, exact in inside) / len(inside)
    mean = sum(nll for nll, _ in inside) / len(inside)
    title = f"{row.length} tokens: {len(inside)} documents, {share(exact_share)} exact, NLL {nats(mean)}"
    return Cell(share=exact_share, text=f"{100 * exact_share:.0f}", title=title)


def _bin(depth: float) -> int:
    return min(int(depth * DEPTH_BINS), DEPTH_BINS - 1)


def _ruler(report: EvaluationReport, names: Sequence[str]) -> str:
    if not report.ruler:
        return ""
    level = (report.threshold, f"{report.threshold:g} %")
    average = _Measure(
        title="Average",
        values={(row.name, row.length): row.average for row in report.ruler},
        axis=Axis(label="average over tasks, %", write=lambda v: f"{v:.0f}", low=0.0, high=100.0, level=level),
        write=percent,
    )
    effective = Column(title="tokens", values=dict(report.effective_lengths), write=length_of)
    tasks = tuple(report.ruler[0].scores)
    note = (
        f"Percent by string match, {len(tasks)} of {len(TASKS)} RULER tasks, greedy generation; prompt and answer "
        f"together fit the length. The effective length is the longest whose average is at least "
        f"{report.threshold:g} %. Haystacks of text are cut from the evaluation's corpus, not from RULER's essays."
    )
    parts = [_measure(average, names, report.original_length), ("Effective length", table(names, [effective]))]
    return _section("RULER", note, _beside(parts, names), _every_task(report, names, tasks))


def _every_task(report: EvaluationReport, names: Sequence[str], tasks: Sequence[str]) -> str:
    tables = "".join(
        f"<h3>{tokens(length)} tokens</h3>"
        + table(names, [Column(title=task, values=_task(report, task, length), write=percent) for task in tasks])
        for length in sorted({row.length for row in report.ruler})
    )
    return f"<details><summary>Every task at every length</summary>{tables}</details>"


def _task(report: EvaluationReport, task: str, length: int) -> dict[str, float | None]:
    return {row.name: row.scores.get(task) for row in report.ruler if row.length == length}


def _text(report: EvaluationReport, names: Sequence[str]) -> str:
    if not report.text:
        return ""
    perplexity = _Measure(
        title="Perplexity",
        values={(row.name, row.length): row.perplexity for row in report.text},
        axis=Axis(label="perplexity", write=lambda value: f"{value:.3g}", logarithmic=True),
        write=two_places,
        best=min,
    )
    accuracy = _Measure(
        title="Next-token accuracy",
        values={(row.name, row.length): row.accuracy for row in report.text},
        axis=Axis(label="next-token accuracy", write=lambda value: f"{100 * value:.0f} %"),
        write=share,
    )
    first = report.text[0]
    note = (
        f"{first.windows} held-out texts. The same {first.tokens // first.windows} tokens at the end of each are "
        "predicted at every length: only what stands before them differs. Sum over count."
    )
    parts = [_measure(one, names, report.original_length) for one in (perplexity, accuracy)]
    return _section("Plain text", note, _beside(parts, names))


def _retention(report: EvaluationReport) -> str:
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


def _harness(report: EvaluationReport) -> str:
    if not report.harness:
        return ""
    names = tuple(dict.fromkeys(row.name for row in report.harness))
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
    return _section(
        "lm-evaluation-harness", "As the harness reports them, within the original length.", table(names, columns)
    )


def _settings(job: JobResource) -> str:
    spec = {name: value for name, value in job.spec.items() if name != "factors"}
    text = escape(json.dumps(spec, indent=2))
    return f"<details><summary>Settings of this evaluation</summary><pre>{text}</pre></details>"
