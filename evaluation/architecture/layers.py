"""How far the layers of a model see, and which of them rotate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One layer. An attention layer has a window, or None: it sees everything. Another kind, such as a state space,
    passes on what it read without a bound.
    """

    attends: bool = True
    rotates: bool = True
    window: int | None = None
    layer_type: str | None = None
    """transformers' name for its kind, where a config has one."""


@dataclass(frozen=True, slots=True)
class Layers:
    """All layers of a decoder, first to last."""

    all: tuple[Layer, ...]

    @property
    def reach(self) -> int | None:
        """Tokens that can change what is predicted at the last one; None for all of them.

        Each layer with a window of w sees w - 1 tokens before its own, through those before them.
        """
        if not self.all or any(layer.window is None for layer in self.all):
            return None
        return 1 + sum(layer.window - 1 for layer in self.all if layer.window is not None)

    @property
    def rotary_window(self) -> int | None:
        """The longest distance, plus one, at which a layer that rotates sees a token; None where there is no bound."""
        windows = [layer.window for layer in self.all if layer.rotates and layer.attends]
        if not windows or None in windows:
            return None
        return max(window for window in windows if window is not None)

    def kinds(self) -> Iterator[str]:
        """Each kind of layer, how many there are, and what it does; for people."""
        ordered = sorted(self.all, key=_describe)
        for text, alike in groupby(ordered, key=_describe):
            count = len(list(alike))
            yield f"{count} {'layer' if count == 1 else 'layers'}: {text}"


def _describe(layer: Layer) -> str:
    if not layer.attends:
        return "no attention"
    sees = "attention over everything" if layer.window is None else f"attention over a window of {layer.window} tokens"
    return f"{sees}, {'rotary' if layer.rotates else 'without positions'}"
