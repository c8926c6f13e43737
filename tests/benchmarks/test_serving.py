"""The loads that engines are compared on; the figures themselves need vLLM."""

from __future__ import annotations

from benchmarks.serving.__main__ import Loads
from tests.helpers.exporting import LONG, ORIGINAL_LENGTH, TARGET_LENGTH, documents


def test_loads_are_on_the_sides_of_l_that_their_names_say() -> None:
    loads = Loads.of(documents(LONG), ORIGINAL_LENGTH, 48)
    assert (len(loads.short), len(loads.long), len(loads.crossing)) == (48, 12, 12)
    assert all(len(ids) + new <= ORIGINAL_LENGTH for ids, new in loads.short)
    assert all(len(ids) > ORIGINAL_LENGTH and len(ids) + new <= TARGET_LENGTH for ids, new in loads.long)
    assert all(len(ids) <= ORIGINAL_LENGTH < len(ids) + new - 1 for ids, new in loads.crossing)
    long = [ids for ids, _ in loads.mixed if len(ids) > ORIGINAL_LENGTH]
    assert (len(loads.mixed), len(long)) == (18, 6)
