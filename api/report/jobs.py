"""The pages of jobs: a list, and the life of one. They change nothing, run no script and load nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from api.report.curves import best_chart, factors_chart, loss_chart
from api.report.pages import page, table
from ropewalk.client.progress import best, done, passes, time_left, waits_for
from ropewalk.factors.exports.registry import EXPORTS
from ropewalk.names import short_name
from ropewalk.wire.jobs import EventResource, JobResource, JobSummary
from ropewalk.wire.kinds import KINDS
from ropewalk.wire.pictures import SearchPictures
from ropewalk.wire.reports import FinetuneReport, SearchReport

_SHOWN_EVENTS = 200
_EXTRA = (
    "progress { width: 100%; height: 14px; } a { color: var(--finetuned); } "
    ".curve { fill: none; stroke: var(--soft); stroke-width: 1; stroke-dasharray: 4 3; } "
    ".curve.loss { stroke: var(--finetuned); } .curve.through { stroke-dasharray: none; } "
    ".curve.dashed { stroke-dasharray: 7 4; } .curve.dotted { stroke-dasharray: 2 3; } "
    ".curve.mixed { stroke-dasharray: 10 3 2 3; } "
    ".curve.found { stroke: var(--found); stroke-width: 2.5; stroke-dasharray: none; } "
    "h2, td { overflow-wrap: anywhere; } td.left:last-child { white-space: normal; min-width: 17ch; } "
    "svg text { text-anchor: start; fill: var(--soft); font-size: 14px; } svg text.last { text-anchor: end; } "
    "svg { width: 100%; max-width: 760px; height: auto; } @media (max-width: 600px) { svg text { font-size: 24px; } }"
)


def jobs_page(jobs: Sequence[JobSummary], *, prefix: str) -> str:
    """The newest jobs of all kinds; `prefix` is the path under which a proxy shows this server."""
    rows = [
        (
            f'<a href="{prefix}/jobs/{escape(job.id)}">{escape(_name(job.model) or job.kind)}</a>',
            escape(job.state.value),
            "" if job.target_length is None else f"{job.target_length:,}",
            f"{100 * (1.0 if job.state.is_final else job.progress.fraction or 0.0):.0f} %",
            escape(best(job.progress)),
            f"{job.created_at:%Y-%m-%d %H:%M}",
            escape(" ".join(f"{name}={value}" for name, value in job.labels.items())),
            escape(job.id),
        )
        for job in jobs
    ]
    names = ("job", "state", "length", "done", "best", "created, UTC", "labels", "id")
    told = table(names, rows) if rows else "<p>There are no jobs yet: <code>ropewalk submit</code> makes one.</p>"
    places = (("plan", "what a search costs"), ("dashboard", "dashboard of all trials"), ("docs", "API"))
    links = (f'<a href="{prefix}/{place}">{words}</a>' for place, words in places)
    more = f"<p>{', '.join(links)}</p>"
    moving = any(not job.state.is_final for job in jobs)
    return page("Jobs", f"<section>{told}</section>{more}", style=_EXTRA, moving=moving)


def job_page(
    job: JobResource,
    *,
    events: Sequence[EventResource],
    pictures: SearchPictures | None,
    prefix: str,
) -> str:
    """One job: state, progress, what it waits for, its verdict, what can be downloaded, curves, and its history.
    `events`: all that is drawn of; the newest are shown."""
    spec, progress = job.spec, job.progress
    model, length = _name(spec.get("model")), spec.get("target_length")
    title = f"{model or job.kind}{'' if length is None else f' to {length:,} tokens'}"
    waits = waits_for(job) or time_left(progress, job.kind)
    facts = [
        job.state.value,
        "" if progress.stage == job.state or job.is_final else progress.stage,
        progress.note,
        passes(progress),
    ]
    facts += [best(progress), waits, " ".join(f"{name}={value}" for name, value in job.labels.items())]
    share, newest = done(job), reversed(events[-_SHOWN_EVENTS:])
    parts = [
        f'<p><a href="{prefix}/">all jobs</a>, <a href="{prefix}/jobs/{escape(job.id)}/plan">what it costs</a></p>',
        f"<section><h2>{escape(job.id)}</h2><p>{escape('; '.join(fact for fact in facts if fact))}</p>"
        f'<progress max="1" value="{share:.3f}" aria-label="done">{100 * share:.0f} %</progress>'
        f"{''.join(f'<p>{escape(warning)}</p>' for warning in job.warnings)}</section>",
        _ending(job, prefix),
        "" if pictures is None else best_chart(pictures.best_so_far) + factors_chart(pictures.factors),
        loss_chart(events),
        f"<section><h2>History</h2>{table(('UTC', 'event', 'data'), map(_event, newest))}</section>",
    ]
    return page(title, "".join(parts), style=_EXTRA, moving=not job.is_final)


def _ending(job: JobResource, prefix: str) -> str:
    address = f"{prefix}/v1/{KINDS[job.kind].collection}/{job.id}"
    if job.error is not None:
        return f"<section><h2>Why it failed</h2><p>{escape(job.error.code)}: {escape(job.error.message)}</p></section>"
    match job.result:
        case None:
            return ""
        case SearchReport(statement=statement, finalists=finalists):
            rows = [
                (escape(one.name), f"{one.nll:.4f}", f"{one.exact_match:.1%}", str(one.documents)) for one in finalists
            ]
            formats = [name for name, row in EXPORTS.items() if row.write is not None]
            links = ", ".join(f'<a href="{address}/factors?format={name}">{escape(name)}</a>' for name in formats)
            return (
                f"<section><h2>Verdict</h2><p>{escape(statement)}</p>"
                f"{table(('factors', 'NLL', 'exact match', 'documents'), rows)}"
                f"<p>Factors to download: {links}</p></section>"
            )
        case FinetuneReport(checkpoint=checkpoint):
            return f"<section><h2>Checkpoint</h2><p><code>{escape(checkpoint)}</code> on the server</p></section>"
        case _:
            return f'<section><h2>Report</h2><p><a href="{address}/report">tables and charts</a></p></section>'


def _event(event: EventResource) -> tuple[str, ...]:
    data = "  ".join(f"{name}={value}" for name, value in event.data.items() if value is not None)
    return f"{event.created_at:%H:%M:%S}", escape(event.type), escape(data)


def _name(model: object) -> str:
    return short_name(model) if isinstance(model, str) else ""
