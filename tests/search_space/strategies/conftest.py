"""What most tests of strategies can do without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from search_space.strategies import nearest_shape


@pytest.fixture(scope="module")
def coarse_formulas() -> Iterator[None]:
    """Formulas are looked for in the shape space from one start instead of eight: for tests of what a strategy does
    with the points, and not of where they are. That search is most of what a step of `auto` costs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest_shape, "_STARTS", 1)
        _forget()
        yield
    _forget()


def _forget() -> None:
    nearest_shape._nearest.cache_clear()
    nearest_shape._fit.cache_clear()
