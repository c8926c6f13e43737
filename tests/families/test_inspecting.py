"""Every family that can be extended has an inspection, whatever its config looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.inspection.making import inspect_model
from tests.helpers.families import Family, families
from tests.helpers.tiny_configs import saved

pytestmark = pytest.mark.slow
WORKING = [pytest.param(one, id=one.family) for one in families() if one.works]


@pytest.mark.parametrize("one", WORKING)
def test_every_family_is_inspected(one: Family, tmp_path: Path) -> None:
    found = inspect_model(saved(tmp_path, one.config), original_length=one.original_length)
    assert (found.original_length, found.rotation.num_pairs) == (one.length, one.pairs)
    assert 0 < found.rotation.pairs_beyond_length <= one.pairs
    assert found.memory.kv_cache_bytes > 0
    assert found.memory.weight_bytes > found.memory.parameters
    loads = {consumer.format: consumer.loads for consumer in found.consumers}
    assert loads["hf"] == (one.export is None)
