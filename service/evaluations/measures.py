"""The measures of an evaluation by name, in the order of its report."""

from __future__ import annotations

from ropewalk.registry import Registry
from service.errors import InvalidSpec
from service.evaluations import harness, needles, ruler, text
from service.evaluations.measure import Measure

MEASURES = Registry(
    "measure",
    needles.ROW,
    ruler.ROW,
    text.ROW,
    harness.ROW,
    refusal=InvalidSpec,
    kind=Measure,
)
