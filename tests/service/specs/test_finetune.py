"""The options of a spec are the settings of a training: the same names, types and ranges, each or null."""

from __future__ import annotations

from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import ValidationError

from finetune.config import FinetuneSettings
from ropewalk.reading.annotations import Slot, slots_of, split
from service.specs.finetune import FinetuneOptions

MACHINE = {"device", "threads"}  # of the machine that trains, not of the job
SLOTS = [slot for slot in slots_of(FinetuneSettings) if slot.name not in MACHINE]


def _kind(annotation: object) -> object:
    """Without null and notes."""
    kind, _ = split(annotation)
    (given,) = (
        (part for part in get_args(kind) or (kind,) if part is not NoneType) if NoneType in get_args(kind) else (kind,)
    )
    return split(given)[0]


def test_every_setting_is_an_option_and_none_is_the_default() -> None:
    assert set(FinetuneOptions.model_fields) == {slot.name for slot in SLOTS} | {"recipe"}
    assert not FinetuneOptions().model_dump(exclude_none=True, exclude={"recipe"})


@pytest.mark.parametrize("slot", SLOTS, ids=lambda slot: slot.name)
def test_an_option_has_the_type_of_its_setting(slot: Slot) -> None:
    hints = get_type_hints(FinetuneOptions, include_extras=True)
    assert _kind(hints[slot.name]) == _kind(slot.kind)


@pytest.mark.parametrize("slot", [slot for slot in SLOTS if slot.range is not None], ids=lambda slot: slot.name)
def test_an_option_has_the_range_of_its_setting(slot: Slot) -> None:
    assert slot.range is not None
    bounds: dict[str, Any] = slot.range.bounds()
    beyond = [bounds["maximum"] + 1, bounds.get("minimum", 0) - 1]
    if "exclusiveMinimum" in bounds:
        beyond.append(bounds["exclusiveMinimum"])
    for value in beyond:
        with pytest.raises(ValidationError):
            FinetuneOptions.model_validate({slot.name: value})
    FinetuneOptions.model_validate({slot.name: bounds["maximum"]})
