"""What the demo says before it starts; the demo itself is run by `make demo`."""

from __future__ import annotations

import pytest

from api.demo.run import SPEC, plan_lines
from ropewalk.client.progress import large
from service.plans.making import plan_search
from service.plans.work import Device
from service.specs.plan import PlanOptions
from service.specs.search import SearchSpec

pytestmark = pytest.mark.torch


def test_the_first_lines_say_what_it_will_take() -> None:
    plan = plan_search(SearchSpec.model_validate(SPEC), Device.of(PlanOptions()))
    lines, search = list(plan_lines(plan)), plan.rows[0]
    assert [line.split(":")[0].split()[-1] for line in lines] == ["search", "validation", "training"]
    assert lines[0].startswith("plan         search: about ")
    assert f"; at most {large(search.passes)} passes, {large(search.tokens)} tokens; " in lines[0]
    assert lines[2] == "             training: 240 rows, 246k tokens; 2.08TFLOP", (
        "60 steps of three long rows and a short one"
    )
