"""Curves on the pages of jobs, as SVG: the factors, the best candidate so far, and the loss of a training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from ropewalk.client.progress import large
from ropewalk.wire.jobs import EventResource
from ropewalk.wire.pictures import BestSoFarPicture, FactorsPicture

STEP = "training.step"
_WIDTH, _HEIGHT, _EDGE, _FOOT = 640.0, 280.0, 34.0, 58.0
_ROOM = 2.0  # above the leader's largest factor: some baselines turn pairs off, with factors of a million
_MOST_POINTS = 400  # of a curve; longer ones are thinned
_BEST_BASELINES = 3  # drawn as levels, as on the dashboard
_SMALLEST = 1e-6  # a log axis has no zero
_LOSSES = {"loss_long": "long", "loss_middle": "middle", "loss_short": "short", "loss_skipped": "skipped"}
_STROKES = ("through", "dashed", "dotted", "mixed")  # classes of the page's style: told apart without colour


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """points: x and y, y above 0 where the axis is a log one."""

    name: str
    points: Sequence[tuple[float, float]]
    css: str = "curve"


def factors_chart(picture: FactorsPicture) -> str:
    """Rescale factor over pair index: the leader drawn through, baselines broken; nothing without a leader."""
    if picture.leader is None:
        return ""
    highest = _ROOM * max(picture.leader.factors)
    lines = [
        _Line(name=one.name, points=[(pair, min(factor, highest)) for pair, factor in enumerate(one.factors)])
        for one in picture.baselines
    ]
    beyond = [one.name for one in picture.baselines if max(one.factors) > highest]
    lines.append(_Line(name=picture.leader.name, points=list(enumerate(picture.leader.factors)), css="curve found"))
    about = (
        f"Rescale factor over pair index, fast pairs first, on a log axis: {picture.leader.name} drawn through, "
        f"{len(picture.baselines)} analytic baselines broken."
    )
    if beyond:
        about += f" Factors above {highest:.3g} are drawn there ({', '.join(beyond)})."
    last = max(len(picture.leader.factors) - 1, 1)
    return _chart("Factors", about, lines, ends=("pair 0", f"pair {last}"), label="rescale factors by pair", log=True)


def best_chart(picture: BestSoFarPicture) -> str:
    """The least NLL on search documents over the tokens that were read; nothing while none is scored."""
    if not picture.best.nll:
        return ""
    last = max(picture.tokens, picture.best.tokens[-1])
    steps: list[tuple[float, float]] = []
    for tokens, nll in zip(picture.best.tokens, picture.best.nll, strict=True):
        value = max(nll, _SMALLEST)
        steps += [(tokens, steps[-1][1]), (tokens, value)] if steps else [(tokens, value)]
    steps.append((last, steps[-1][1]))
    baselines = sorted(picture.baselines, key=lambda one: one.nll)[:_BEST_BASELINES]
    lines = [
        _Line(name=one.name, points=[(0, max(one.nll, _SMALLEST)), (last, max(one.nll, _SMALLEST))])
        for one in baselines
    ]
    lines.append(_Line(name="best so far", points=steps, css="curve found"))
    levels = ", ".join(f"{one.name} {one.nll:.4g}" for one in baselines)
    about = (
        "NLL of the best searched candidate, nats per answer token on search documents, over the tokens read, on a log "
        f"axis: drawn through. Broken: the best analytic baselines{f' ({levels})' if levels else ''}."
    )
    return _chart("Best so far", about, lines, ends=("0 tokens", large(last)), label="best NLL by tokens", log=True)


def loss_chart(events: Sequence[EventResource]) -> str:
    """The loss of each kind of rows over the steps of a training; nothing before the second step."""
    known: dict[float, Mapping[str, object]] = {}
    for event in events:  # a step that was done again after an interruption counts as it was done last
        if event.type == STEP and isinstance(step := event.data.get("step"), int):
            known[step] = event.data
    found = {name: list(_losses(known, field)) for field, name in _LOSSES.items()}
    strokes = dict(zip(found, _STROKES, strict=True))
    lines = [
        _Line(name=name, points=points, css=f"curve loss {strokes[name]}")
        for name, points in found.items()
        if len(points) > 1
    ]
    if not lines:
        return ""
    kinds = ", ".join(f"{one.name} drawn {strokes[one.name]}" for one in lines)
    about = f"Loss of each step, nats per token, by kind of rows: {kinds}."
    ends = (f"step {min(known):g}", f"step {max(known):g}")
    return _chart("Loss", about, lines, ends=ends, label="loss by step", log=False)


def _losses(known: Mapping[float, Mapping[str, object]], field: str) -> Iterator[tuple[float, float]]:
    for step in sorted(known):
        value = known[step].get(field)
        if isinstance(value, int | float) and math.isfinite(value):
            yield step, float(value)


def _chart(title: str, about: str, lines: Sequence[_Line], *, ends: tuple[str, str], label: str, log: bool) -> str:
    """`ends`: of the axis of x."""

    def height(value: float) -> float:
        return math.log(value) if log else value

    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    left, low = min(xs), height(min(ys))
    wide, high = max(max(xs) - left, 1e-9), max(height(max(ys)) - low, 1e-9)

    def place(x: float, y: float) -> str:
        across = _EDGE + (x - left) / wide * (_WIDTH - 2 * _EDGE)
        return f"{across:.1f},{_HEIGHT - _FOOT - (height(y) - low) / high * (_HEIGHT - _EDGE - _FOOT):.1f}"

    drawn = "".join(_polyline(line, " ".join(place(*point) for point in _thinned(line.points))) for line in lines)
    return (
        f"<section><h2>{escape(title)}</h2><p>{escape(about)}</p>"
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{escape(label)}">{drawn}'
        f'<text x="2" y="{_EDGE - 8:g}">{max(ys):.3g}</text>'
        f'<text x="2" y="{_HEIGHT - _FOOT + 24:g}">{min(ys):.3g}</text>'
        f'<text x="{_EDGE:g}" y="{_HEIGHT - 6:g}">{escape(ends[0])}</text>'
        f'<text class="last" x="{_WIDTH - _EDGE:g}" y="{_HEIGHT - 6:g}">{escape(ends[1])}</text></svg></section>'
    )


def _polyline(line: _Line, points: str) -> str:
    return f'<polyline class="{line.css}" points="{points}"><title>{escape(line.name)}</title></polyline>'


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    step = math.ceil(len(points) / _MOST_POINTS)
    return points if step < 2 else [*points[::step], points[-1]]
