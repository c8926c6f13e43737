"""What of the plugin needs no vLLM."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any

import pytest

from ropewalk.errors import NotServed
from ropewalk.serving import plugin
from ropewalk.serving.wrapping import wrap


class Owner:
    def number(self) -> int:
        """One."""
        return 1


def test_a_method_is_wrapped_once() -> None:
    def one_more(original: Any) -> Any:
        return lambda self: original(self) + 1

    for _ in range(3):
        wrap(Owner, "number", one_more)
    assert Owner().number() == 2
    assert Owner.number.__doc__ == "One."


@pytest.mark.parametrize("version", ["0.31.2", "0.33.0", "1.0"])
def test_another_vllm_is_refused_with_both_versions(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    with pytest.raises(NotServed) as caught:
        plugin._apply(None, {})
    assert str(caught.value) == (
        f"vLLM must be of version 0.32, but {version} is installed: ropewalk's plugin does not know it "
        "(ROPEWALK_VLLM=off serves without)"
    )


def test_the_package_brings_the_plugin() -> None:
    (entry,) = importlib.metadata.entry_points(group="vllm.general_plugins", name="ropewalk")
    assert entry.load() is plugin.register
