from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.errors import InvalidSwitch
from ropewalk.serving.switch import (
    Switch,
    Window,
    check_length,
    most_new_tokens,
    read_switch,
    resalted,
    salted,
    salted_window,
    window_of,
)

WINDOWS = st.sampled_from(get_args(Window))
SALTS = st.none() | st.text() | st.builds(salted, WINDOWS, st.text())


@pytest.mark.parametrize("switch", get_args(Switch))
def test_a_switch_is_read_in_either_form(switch: Switch) -> None:
    assert read_switch({"ropewalk_switch": switch, "session_id": "a"}) == switch
    assert read_switch({"ropewalk": {"switch": switch}}) == switch
    assert read_switch({"ropewalk": {"switch": switch}, "ropewalk_switch": switch}) == switch


@pytest.mark.parametrize("arguments", [None, {}, {"kv_transfer_params": {"a": 1}}])
def test_who_says_nothing_is_served_by_length(arguments: dict[str, object] | None) -> None:
    assert read_switch(arguments) == "auto"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ropewalk_switch": "Long"}, "ropewalk_switch must be one of auto, short, long, but got 'Long'; did you mean"),
        ({"ropewalk_switch": 1}, "ropewalk_switch must be one of auto, short, long, but got 1"),
        ({"ropewalk_switch": None}, "but got None"),
        ({"ropewalk_switch": ["short"]}, "but got ['short']"),
        ({"ropewalk": {"switch": "x"}}, "ropewalk.switch must be one of auto, short, long, but got 'x'"),
        ({"ropewalk": "long"}, "but got 'long'; ropewalk_switch takes the word alone"),
        ({"ropewalk": {"switch": "long", "more": 1}}, 'ropewalk must be {"switch": one of auto, short, long}'),
        ({"ropewalk": {}}, 'ropewalk must be {"switch": one of'),
        ({"ropewalk_swich": "long"}, "a request's key for Ropewalk must be ropewalk_switch, but got 'ropewalk_swich'"),
        (
            {"ropewalk": {"switch": "long"}, "ropewalk_switch": "short"},
            "a request must have one switch, but got ropewalk_switch='short' and ropewalk='long'",
        ),
    ],
)
def test_any_other_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidSwitch) as caught:
        read_switch(arguments)
    assert message in str(caught.value)


def test_a_refusal_repeats_little() -> None:
    with pytest.raises(InvalidSwitch) as caught:
        read_switch({"ropewalk_switch": "x" * 10_000})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("switch", "tokens", "window"),
    [("auto", 1, "short"), ("auto", 256, "short"), ("auto", 257, "long"), ("short", 256, "short"), ("long", 1, "long")],
)
def test_the_length_decides_unless_the_request_does(switch: Switch, tokens: int, window: Window) -> None:
    assert window_of(switch, tokens, 256) == window


def test_the_short_factors_end_at_l() -> None:
    check_length("short", 256, 256)
    check_length("auto", 257, 256)
    with pytest.raises(InvalidSwitch, match="must be within the original 256 tokens, but its prompt has 257"):
        check_length("short", 257, 256)
    assert most_new_tokens("short", 256, 256) == 1  # which is not read any more
    assert most_new_tokens("short", 200, 256) == 57
    assert most_new_tokens("auto", 200, 256) is None


@given(WINDOWS, SALTS)
def test_a_salt_says_its_window_whatever_a_client_gave(window: Window, salt: str | None) -> None:
    assert salted_window(salted(window, salt)) == window


@given(SALTS, SALTS)
def test_windows_and_salts_never_meet(one: str | None, other: str | None) -> None:
    assert salted("short", one) != salted("long", other)
    assert (salted("long", one) == salted("long", other)) == ((one or "") == (other or ""))


@given(WINDOWS, WINDOWS, SALTS)
def test_a_change_of_window_keeps_the_client_s_salt(before: Window, after: Window, salt: str | None) -> None:
    assert resalted(after, salted(before, salt)) == salted(after, salt)


@pytest.mark.parametrize("salt", [None, "", "mine", "long/", "ropewalk", "ropewalk-"])
def test_other_salts_say_none(salt: str | None) -> None:
    assert salted_window(salt) is None
