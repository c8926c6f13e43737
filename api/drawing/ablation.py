"""The picture of an ablation, as a PNG file: held-out NLL over tokens read, a panel per model and length."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ropewalk.client.progress import large
from service.ablations.results import Ablation, BaselineResult, Group
from service.pictures import style

DPI = 130
_COLOURS = ("#c1121f", "#1d3557", "#2a9d8f", "#e9a23b", "#7b2cbf", "#7f5539", "#d26a9c", "#588157")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw_ablation(path: Path, ablation: Ablation) -> None:
    """Median over seeds with the range of all seeds; the best baselines as levels. Models are rows, lengths columns.

    Raises:
        OSError: the file cannot be written.
    """
    models = list(dict.fromkeys(model for model, _ in ablation.places))
    lengths = list(dict.fromkeys(length for _, length in ablation.places))
    figure = Figure(figsize=(2.2 + 4.6 * len(lengths), 0.6 + 3.8 * len(models)), layout="constrained")
    panels = figure.subplots(len(models), len(lengths), squeeze=False)
    for row, model in zip(panels, models, strict=True):
        for axes, length in zip(row, lengths, strict=True):
            _draw_panel(axes, ablation, model, length)
    _add_legend(figure, [axes for row in panels for axes in row])
    figure.suptitle("Held-out NLL over what the search read", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": "ropewalk"})


def _draw_panel(axes: Axes, ablation: Ablation, model: str, length: int) -> None:
    labels = [strategy.label for strategy in ablation.spec.strategies]
    groups = [group for group in ablation.groups() if (group.model, group.target_length) == (model, length)]
    levels = ablation.baselines_at(model, length)[: style.BEST_BASELINES]
    for group in sorted(groups, key=lambda one: labels.index(one.label)):
        _draw_group(axes, group, _costs(group, tokens=_know_tokens(groups)), labels.index(group.label))
    for level in levels:
        colour = style.baseline_colour(level.name.partition("+")[0])
        axes.axhline(style.drawn_nll(level.held_out.nll), color=colour, linewidth=1.2, linestyle="--", label=level.name)
    axes.set_title(f"{short_name(model)}, {length} tokens", fontsize=9)
    axes.set_xlabel(style.TOKENS_AXIS if _know_tokens(groups) else "search document passes", fontsize=8)
    axes.set_ylabel(style.NLL_AXIS, fontsize=8)
    if groups or levels:
        _scale(axes, groups, levels)
    else:
        axes.text(0.5, 0.5, style.NOTHING_YET, ha="center", va="center", transform=axes.transAxes)


def _know_tokens(groups: Sequence[Group]) -> bool:
    """Cells that were run by earlier versions say only how many passes they took."""
    return all(point.tokens is not None for group in groups for point in group.curve)


def _costs(group: Group, *, tokens: bool) -> list[float]:
    return [point.tokens if tokens and point.tokens is not None else point.document_passes for point in group.curve]


def _draw_group(axes: Axes, group: Group, costs: Sequence[float], place: int) -> None:
    low, mid, high = (
        [style.drawn_nll(value) for value in values]
        for values in zip(*((point.nll.low, point.nll.median, point.nll.high) for point in group.curve), strict=True)
    )
    colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
    axes.fill_between(costs, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.vlines(costs, low, high, color=colour, linewidth=1.2, alpha=0.6)
    axes.plot(costs, mid, marker=marker, color=colour, linewidth=1.8, markersize=5, label=group.label)


def _scale(axes: Axes, groups: list[Group], levels: tuple[BaselineResult, ...]) -> None:
    values = [value for group in groups for point in group.curve for value in (point.nll.low, point.nll.high)]
    drawn = [style.drawn_nll(value) for value in [*values, *(level.held_out.nll for level in levels)]]
    low, high = 0.8 * min(drawn), 1.25 * max(drawn)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    ticks = style.log_ticks(low, high)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.yaxis.set_minor_formatter(NullFormatter())
    costs = [cost for group in groups for cost in _costs(group, tokens=_know_tokens(groups))]
    if not costs:
        return
    axes.set_xscale("log")
    axes.set_xlim(0.6 * min(costs), 1.6 * max(costs))
    ticks = style.log_ticks(*axes.get_xlim())
    axes.set_xticks(ticks, [large(tick) for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())


def _add_legend(figure: Figure, panels: list[Axes]) -> None:
    entries = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if entries:
        figure.legend(entries.values(), entries.keys(), fontsize=8, loc="outside right upper", frameon=False)


def short_name(model: str) -> str:
    """A model that is a directory by its last part."""
    return Path(model).name if model.startswith("/") else model
