"""The table of measures: each field of the spec and of the report has at most one owner."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

from ropewalk.wire.evaluation import EvaluationReport
from service.evaluations.measures import MEASURES
from service.specs.evaluation import EvaluationSpec

OF_NO_MEASURE = {"model", "original_length", "target_length", "threshold", "retention", "tokens"}


def test_every_field_of_a_measure_is_one_of_the_specs_and_its_own() -> None:
    claimed = [name for row in MEASURES.values() for name in (row.asked_by, *row.fields) if name is not None]
    assert set(claimed) <= set(EvaluationSpec.model_fields)
    assert [name for name, times in Counter(claimed).items() if times > 1] == []


def test_every_list_of_the_report_is_filled_by_one_measure() -> None:
    claimed = [name for row in MEASURES.values() for name in row.results]
    assert sorted([*claimed, *OF_NO_MEASURE]) == sorted(EvaluationReport.model_fields)


def test_a_spec_asks_for_what_its_fields_say() -> None:
    spec = {"target_length": 512}
    for row in MEASURES.values():
        assert row.is_asked(EvaluationSpec.model_validate(spec)) == (row.asked_by is None)
        if row.asked_by is not None:
            given = 1 if EvaluationSpec.model_fields[row.asked_by].default == 0 else ["vt"]
            assert row.is_asked(EvaluationSpec.model_validate({**spec, row.asked_by: given}))


def test_measures_are_prepared_without_ray() -> None:
    """The server prepares evaluations, and sets up the environment that Ray reads when it is imported."""
    code = "import sys, service.evaluations.prepare; print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
