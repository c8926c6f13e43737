"""Factors as a program holds them."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

import ropewalk
from ropewalk.client.sync import Client
from ropewalk.errors import FactorsDoNotFit, InvalidFactorFile
from ropewalk.factors.exports.registry import EXPORTS
from ropewalk.found import Factors
from tests.helpers.factor_files import FULL
from tests.helpers.paths import ROOT

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "head_dim": 8,
    "max_position_embeddings": 256,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    Factors(FULL).write(tmp_path / "factors.json")
    assert Factors.read(tmp_path / "factors.json") == Factors(FULL)
    assert Factors.read(str(tmp_path)) == Factors(FULL), "a directory's"
    found = ropewalk.Factors.read(tmp_path)
    assert (found.model, found.original_length, found.target_length) == ("pocket", 256, 1024)
    assert (found.long_factor, found.attention_factor) == ((1.0, 2.0, 4.0, 4.5), 1.0)


def test_every_format_that_is_text_is_written(tmp_path: Path) -> None:
    for name, row in EXPORTS.items():
        if row.write is not None:
            Factors(FULL).write(tmp_path / name, format=name)
            assert (tmp_path / name).read_text() == row.write(FULL)
            assert Factors(FULL).notes(name) == row.notes(FULL)


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    for name in ("gguf", "parquet"):
        with pytest.raises(InvalidFactorFile, match=f"got '{name}'"):
            Factors(FULL).write(tmp_path / "out", format=name)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ropewalk.InvalidFactorFile) as refused:
        Factors.from_json(FULL.to_json().replace('"target_length": 1024', '"target_length": 8'))
    assert refused.value.pointer == "/target_length"


def test_a_config_gets_the_factors_and_keeps_the_rest() -> None:
    found = Factors(FULL).config_for(CONFIG)
    assert (found["model_type"], found["max_position_embeddings"]) == ("llama", 1024)
    assert found["rope_parameters"]["long_factor"] == [1.0, 2.0, 4.0, 4.5]
    assert CONFIG["max_position_embeddings"] == 256


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"head_dim": 16}, "rotary_dim must be the model's, 16, but the factor file says 8"),
        (
            {"rope_parameters": {"rope_theta": 7.0}},
            "rope_theta must be the model's, 7.0, but the factor file says 1000.0",
        ),
        ({"rope_parameters": None, "rope_theta": 7.0}, "rope_theta must be the model's, 7.0"),
        ({"max_position_embeddings": 128}, "original_max_position_embeddings must be at most the model's, 128"),
        ({"rope_scaling": {"rope_type": "longrope"}, "rope_parameters": None}, "has factors for 256 tokens already"),
    ],
)
def test_a_config_of_another_model_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(FactorsDoNotFit) as refused:
        Factors(FULL).config_for({**CONFIG, **changes})
    assert told in str(refused.value)


def test_they_can_be_looked_at() -> None:
    assert repr(Factors(FULL)) == ("<Factors for pocket: 256 -> 1024 tokens, 4 pairs, 1 to 4.5, attention factor 1>")
    page = Factors(FULL)._repr_html_()
    assert page.count("<svg") == 1
    assert "256 to 1024" in page
    named = json.loads(FULL.to_json())
    named["model"]["name"] = "<script>"
    assert "<script>" not in Factors.from_json(json.dumps(named))._repr_html_()


def test_they_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    axes = Factors(FULL).plot()
    assert axes.get_yscale() == "log"
    assert Factors(FULL).plot(axes) is axes
    from matplotlib import pyplot

    pyplot.close("all")


def test_every_name_of_the_package_is_there() -> None:
    assert {getattr(ropewalk, name) for name in ropewalk.__all__}
    assert dir(ropewalk) == ropewalk.__all__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ropewalk.nonsense  # noqa: B018


def test_a_search_without_the_service_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ropewalk.searching._GROUP", "ropewalk.nobody")
    with pytest.raises(ropewalk.SearchRefused, match=r"needs the service .* \(the distribution ropewalk-service\)"):
        ropewalk.find_factors("pocket", 1024)


def test_the_page_names_what_there_is() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    names = set(re.findall(r"\bropewalk\.([A-Za-z_]+)\b(?!\.)", page)) - {"whl", "ipynb"}
    assert {"Client", "AsyncClient", "generate", "find_factors"} <= names
    assert sorted(names - set(ropewalk.__all__)) == []
    methods = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`\w+`.*?) \|", page, flags=re.MULTILINE))))
    public = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
    assert public - methods == {"close"}
