"""A factor file in a notebook's cell: a table of what it says, and its factors as a curve."""

from __future__ import annotations

import math
from html import escape

from ropewalk.factors.factor_file import FactorFile

_WIDTH, _HEIGHT, _MARGIN = 420, 120, 6


def as_html(file: FactorFile) -> str:
    """HTML that needs nothing else."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(value)}</td></tr>"
        for name, value in _rows(file)
    )
    return f"<div><table>{cells}</table>{_curve(file)}</div>"


def _rows(file: FactorFile) -> list[tuple[str, str]]:
    rows = [
        ("model", file.model.name),
        ("tokens", f"{file.original_max_position_embeddings} to {file.target_length}"),
        ("pairs", f"{len(file.long_factor)}"),
        ("factors", f"{file.long_factor.values[0]:.4g} to {file.long_factor.values[-1]:.4g}"),
        ("attention factor", f"{file.attention_factor:.4g}"),
    ]
    if (found := file.validation) is not None:
        rows.append(("held-out NLL", f"{found.nll:.4f}, {found.best_baseline} {found.best_baseline_nll:.4f}"))
        rows.append(("exact match", f"{found.exact_match:.1%} of {found.documents} documents"))
    return rows


def _curve(file: FactorFile) -> str:
    """ln lambda_i over the pairs."""
    values = [math.log(value) for value in file.long_factor.values]
    least, most = min(0.0, *values), max(values)
    across = (_WIDTH - 2 * _MARGIN) / max(len(values) - 1, 1)
    up = (_HEIGHT - 2 * _MARGIN) / ((most - least) or 1.0)
    points = " ".join(
        f"{_MARGIN + across * pair:.1f},{_HEIGHT - _MARGIN - up * (value - least):.1f}"
        for pair, value in enumerate(values)
    )
    return (
        f"<svg width='{_WIDTH}' height='{_HEIGHT}' role='img' aria-label='factors over pairs, logarithmic'>"
        f"<polyline points='{points}' fill='none' stroke='#1f77b4' stroke-width='2'/></svg>"
    )
