"""Benchmarks that start processes: what these run must be something that they can import."""

import pickle
from types import FunctionType

import pytest

from benchmarks.extend import running as extend
from benchmarks.search import running as search


@pytest.mark.parametrize("function", [search.run_and_print, extend.run_cell])
def test_what_other_processes_run_is_not_of_the_main_module(function: FunctionType) -> None:
    assert function.__module__.endswith(".running")
    assert pickle.loads(pickle.dumps(function)) is function
