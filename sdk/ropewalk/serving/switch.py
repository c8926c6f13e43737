"""How a request is served, and what makes it so: its length, or its own word in ``vllm_xargs``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, cast, get_args

from ropewalk.errors import InvalidSwitch
from ropewalk.names import did_you_mean

Window = Literal["short", "long"]
Switch = Literal["auto", "short", "long"]

FLAT_KEY: Final = "ropewalk_switch"
"""In ``vllm_xargs`` of vLLM's server, which by themselves hold numbers, strings and lists of them."""
NESTED_KEY: Final = "ropewalk"
"""The same as {"switch": ...}: in ``extra_args`` of vLLM's `SamplingParams`, and with the plugin in ``vllm_xargs``."""

_SWITCHES: Final = get_args(Switch)
_SALT: Final = "ropewalk-"


def read_switch(arguments: Mapping[str, object] | None) -> Switch:
    """What a request asks for; "auto" where it says nothing.

    Raises:
        InvalidSwitch: a value that is none, another key beside the switch, or two that differ.
    """
    if not arguments:
        return "auto"
    for key in arguments:
        if key.startswith(NESTED_KEY) and key not in (FLAT_KEY, NESTED_KEY):
            raise InvalidSwitch(f"a request's key for Ropewalk must be {FLAT_KEY}, but got {key!r:.80}")
    flat = _checked(FLAT_KEY, arguments[FLAT_KEY]) if FLAT_KEY in arguments else None
    nested = _nested(arguments[NESTED_KEY]) if NESTED_KEY in arguments else None
    if flat is not None and nested is not None and flat != nested:
        raise InvalidSwitch(f"a request must have one switch, but got {FLAT_KEY}={flat!r} and {NESTED_KEY}={nested!r}")
    return flat or nested or "auto"


def window_of(switch: Switch, tokens: int, original_length: int) -> Window:
    """Which factors a text of so many tokens is read with."""
    if switch == "auto":
        return "long" if tokens > original_length else "short"
    return switch


def check_length(switch: Switch, tokens: int, original_length: int) -> None:
    """Raise InvalidSwitch for a prompt that the short factors do not reach."""
    if switch == "short" and tokens > original_length:
        raise InvalidSwitch(
            f"a request with {FLAT_KEY}='short' must be within the original {original_length} tokens, "
            f"but its prompt has {tokens}"
        )


def most_new_tokens(switch: Switch, tokens: int, original_length: int) -> int | None:
    """How many tokens may follow a prompt: by the short factors one more than they reach; None where nothing ends."""
    return original_length + 1 - tokens if switch == "short" else None


def salted(window: Window, salt: str | None) -> str:
    """A request's cache salt, which is part of the hash of its first KV block and so of all: no window shares blocks.

    Whatever a client gives as a salt comes behind the window, so that no salt can stand for another window.
    """
    return f"{_SALT}{window}/{salt or ''}"


def salted_window(salt: str | None) -> Window | None:
    """The window that a salt says; None for a salt of other making."""
    for window in get_args(Window):
        if (salt or "").startswith(f"{_SALT}{window}/"):
            return cast("Window", window)
    return None


def resalted(window: Window, salt: str) -> str:
    """The salt of a request whose window changes."""
    return salted(window, salt.split("/", 1)[1])


def _checked(key: str, value: object) -> Switch:
    if value not in _SWITCHES:
        raise InvalidSwitch(
            f"{key} must be one of {', '.join(_SWITCHES)}, but got {value!r:.80}{did_you_mean(str(value), _SWITCHES)}"
        )
    return cast("Switch", value)


def _nested(value: object) -> Switch:
    if not isinstance(value, Mapping) or set(value) != {"switch"}:
        raise InvalidSwitch(
            f'{NESTED_KEY} must be {{"switch": one of {", ".join(_SWITCHES)}}}, but got {value!r:.80}; '
            f"{FLAT_KEY} takes the word alone"
        )
    return _checked(f"{NESTED_KEY}.switch", value["switch"])
