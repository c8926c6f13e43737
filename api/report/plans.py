"""What a job will cost, as the command line and a page show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ropewalk.client.progress import duration, large
from ropewalk.wire.plan import Plan, PlanRow


def headline(found: Plan) -> str:
    """Which model goes how far, on what."""
    return f"{found.model}, from {found.original_length} to {found.target_length} tokens, on {found.device}"


def columns(found: Plan) -> tuple[str, ...]:
    """Of the table: a price where one was given."""
    names = ("work", "passes", "tokens", "PFLOP", "GPUs", "GiB each", "time")
    return (*names, "price") if _is_priced(found) else names


def cells(found: Plan) -> Iterator[tuple[str, ...]]:
    """The table's rows. Two numbers are what is expected and the most that it can be."""
    for row in found.rows:
        yield _cells(row, priced=_is_priced(found))


def remarks(found: Plan) -> Iterator[str]:
    """What stands below the table."""
    if any(row.bound == "at most" and row.expected_passes != row.passes for row in found.rows):
        yield "where there are two numbers, the run's own scores decide: about the first, at most the second"
    yield from found.notes


def _is_priced(found: Plan) -> bool:
    return any(row.price is not None for row in found.rows)


def _cells(row: PlanRow, *, priced: bool) -> tuple[str, ...]:
    def both(expected: float, most: float, of: Callable[[float], str] = _number) -> str:
        shown, bound = of(expected), of(most)
        return bound if row.bound == "exactly" or shown == bound else f"{shown} / {bound}"

    return (
        row.work,
        both(row.expected_passes, row.passes),
        both(row.expected_tokens, row.tokens),
        both(row.expected_pflop, row.pflop),
        str(row.gpus),
        f"{row.memory_gib:.3g}{'' if row.fits else ', does not fit'}",
        both(3600 * row.expected_hours, 3600 * row.hours, _time),
        *((both(row.expected_price or 0.0, row.price or 0.0, _price),) if priced else ()),
    )


def _number(value: float) -> str:
    return large(value) if value >= 1 else f"{value:.2g}"


def _time(seconds: float) -> str:
    return duration(seconds) if seconds >= 1 else "under 1 s"


def _price(amount: float) -> str:
    return f"{amount:,.2f}" if amount >= 0.005 or amount == 0.0 else "under 0.01"
