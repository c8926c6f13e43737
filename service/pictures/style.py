"""What the dashboard's figures and the PNG files share: words, colours and axes."""

import math
from collections.abc import Sequence
from typing import get_args

from ropewalk.names import short_name
from ropewalk.wire.pictures import FactorCurve, FactorsPicture, NeedleCell, NeedleColumn, Role, SearchPictures

ROLES: tuple[Role, ...] = get_args(Role)

LEADER_COLOUR = "#c1121f"
SURVIVOR_COLOUR = "#7b9fc7"
RACED_OUT_COLOUR = "#c9c9c9"
POINT_COLOUR = "#8d99ae"
BASELINE_COLOURS = {
    "none": "#6b7280",
    "pi": "#457b9d",
    "ntk": "#2a9d8f",
    "ntk_critical": "#588157",
    "yarn": "#e9a23b",
    "yarn_critical": "#7f5539",
    "mrrope_pro": "#7b2cbf",
    "cope": "#d26a9c",
}
OTHER_BASELINE_COLOUR = "#264653"
SMALLEST_NLL = 1e-6  # nats per answer token; a log axis has no zero
BEST_BASELINES = 3  # drawn as levels in best-so-far
HEAT_SCALE = "YlOrRd"  # known to plotly and to matplotlib
NEEDLES_NOTE = "held-out documents; colour: NLL, text: NLL and exact match"
NOTHING_YET = "nothing is scored yet"
DEPTH_AXIS = "planned needle depth"
TOKENS_AXIS = "tokens read over search documents"
NLL_AXIS = "NLL (nats per answer token)"


def baseline_colour(name: str) -> str:
    """The same baseline has the same colour in every picture."""
    return BASELINE_COLOURS.get(name, OTHER_BASELINE_COLOUR)


def leader_label(pictures: SearchPictures, name: str) -> str:
    """The leader's entry in a legend."""
    return f"winner: {name}" if pictures.decided else f"leader so far: {name}"


def factors_title(pictures: SearchPictures) -> str:
    """Model and lengths."""
    lengths = [str(length) for length in (pictures.original_length, pictures.target_length) if length is not None]
    return f"Rescale factors: {short_name(pictures.model)}, {' to '.join(lengths)} tokens"


def with_widths(curves: Sequence[FactorCurve]) -> list[tuple[FactorCurve, float]]:
    """Each drawn over the ones before, thinner than they: baselines that agree are all seen."""
    return [(curve, 1.0 + 0.3 * (len(curves) - 1 - place)) for place, curve in enumerate(curves)]


def scale_label(scale: float) -> str:
    """The level that position interpolation has everywhere."""
    return f"s = {scale:g}"


def marks(picture: FactorsPicture) -> list[tuple[str, int, str, str]]:
    """The critical pairs as upright lines: (label, pair, colour, dash as plotly names it)."""
    known = [
        ("theoretical critical pair", picture.theoretical_critical_pair, "black", "dash"),
        ("ten-period critical pair", picture.ten_period_critical_pair, "black", "dashdot"),
        ("found critical pair", picture.critical_pair, LEADER_COLOUR, "dash"),
    ]
    return [(f"{label}: {pair}", pair, colour, dash) for label, pair, colour, dash in known if pair is not None]


def factor_range(picture: FactorsPicture) -> tuple[float, float]:
    """The y axis of the factors: a baseline that goes to infinity (cope) leaves it."""
    largest = 1.1 * picture.leader.factors[-1] if picture.leader is not None else 2.0
    return 0.9, largest if picture.scale is None else max(4.0 * picture.scale, largest)


def powers_of_2(high: float) -> list[float]:
    """1, 2, 4, ... up to `high`."""
    return [2.0**power for power in range(math.floor(math.log2(high)) + 1)]


def best_so_far_note(pictures: SearchPictures) -> str:
    """What the points are, and how many of them are drawn."""
    picture = pictures.best_so_far
    shown, finished = len(picture.points.trials), picture.finished
    part = f"{finished} candidates" if shown == finished else f"{shown} of {finished} candidates drawn"
    return f"search documents, not held out; {part}"


def race_note(pictures: SearchPictures) -> str:
    """What the lines are, and how many of them are drawn."""
    shown, candidates = len(pictures.race.lines), pictures.race.candidates
    if shown == candidates:
        return f"running mean over search documents; {candidates} candidates"
    return f"{shown} of {candidates} candidates drawn: the baselines, the best, an even sample of the others"


def race_range(pictures: SearchPictures) -> tuple[float, float]:
    """The y axis of the race: lines from their first quarter on; single first documents may lie far outside."""
    lines = [line.nll for line in pictures.race.lines]
    lowest = min((nll[-1] for nll in lines), default=1.0)
    settled = [max(value, 0.25 * lowest) for nll in lines for value in nll[len(nll) // 4 :]]
    return _around(settled)


def best_so_far_range(pictures: SearchPictures) -> tuple[float, float]:
    """The y axis of best-so-far: every point and the drawn baselines."""
    picture = pictures.best_so_far
    return _around([*picture.points.nll, *(level.nll for level in picture.baselines[:BEST_BASELINES])])


def _around(values: Sequence[float]) -> tuple[float, float]:
    drawn = [drawn_nll(value) for value in values] or [1.0]
    return 0.8 * min(drawn), 1.25 * max(drawn)


def drawn_nll(nll: float) -> float:
    """`nll` where a log axis can show it."""
    return max(nll, SMALLEST_NLL)


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each decade within [low, high]; of four decades or more only the whole ones."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high < 1e4 * low else (1,)
    ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def heat_limit(columns: Sequence[NeedleColumn]) -> float:
    """The NLL at which the colours of a needle heat map end; they begin at 0."""
    values = [cell.nll for column in columns for cell in column.cells if cell.nll is not None]
    return max([*values, SMALLEST_NLL])


def column_label(column: NeedleColumn) -> str:
    """A contender's name over its role and its score."""
    return f"{column.name}\n{column.role}, {column.nll:.3f} nats"


def cell_label(cell: NeedleCell) -> str:
    """NLL, and exact match in percent of documents; nothing for an empty cell."""
    if cell.nll is None or cell.exact_match is None:
        return ""
    return f"{cell.nll:.3f}\n{100 * cell.exact_match:.0f} % exact"


def bin_label(low: float, high: float) -> str:
    """A depth bin in percent."""
    return f"{100 * low:.0f}-{100 * high:.0f} %"
