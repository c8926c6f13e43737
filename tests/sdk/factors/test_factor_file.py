from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.errors import InvalidFactorFile, RopewalkError
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.published import PairFactors
from tests.helpers.factor_files import FULL

DOCUMENT = json.loads(FULL.to_json())


def test_round_trip_and_shape() -> None:
    assert FactorFile.from_json(FULL.to_json()) == FULL
    document = {
        "format": "ropewalk.factors/1",
        "model": {"name": "pocket", "revision": None, "sha256": "ab" * 32, "rope_theta": 1000.0, "rotary_dim": 8},
        "original_max_position_embeddings": 256,
        "target_length": 1024,
        "critical_pair": 2,
        "attention_factor": 1.0,
        "short_factor": [1.0, 1.0, 1.0, 1.0],
        "long_factor": [1.0, 2.0, 4.0, 4.5],
        "search": {"id": "srch_1", "trial": 7, "nll": 0.125, "documents": 10, "document_passes": 640},
        "validation": {
            "nll": 0.25,
            "exact_match": 0.9,
            "documents": 40,
            "best_baseline": "yarn",
            "best_baseline_nll": 0.3,
            "delta_ci95": [-0.08, -0.02],
        },
        "baselines": {"pi": {"nll": 3.0, "exact_match": 0.0}, "yarn": {"nll": 0.3, "exact_match": 0.8}},
        "seed": 0,
        "ropewalk_version": "0.1.0",
    }
    assert FULL.to_json() == json.dumps(document, indent=2) + "\n", "byte for byte, in this order"


@pytest.mark.slow
@given(
    st.integers(1, 16).flatmap(lambda n: st.lists(st.floats(1.0, 1e6), min_size=n, max_size=n).map(sorted)),
    st.floats(0.5, 2.0),
    st.floats(1.5, 1e9),
    st.integers(1, 10**6),
    st.integers(0, 10**6),
    st.text(max_size=20),
    st.integers(0, 2**63) | st.none(),
)
def test_every_bit_survives(
    values: list[float], attention: float, theta: float, length: int, more: int, name: str, seed: int | None
) -> None:
    file = FactorFile(
        model=ModelIdentity(name=name, rope_theta=theta, rotary_dim=2 * len(values), partial_rotary_factor=0.75),
        original_max_position_embeddings=length,
        target_length=length + more,
        attention_factor=attention,
        short_factor=PairFactors((1.0,) * len(values)),
        long_factor=PairFactors(tuple(values)),
        seed=seed,
    )
    assert FactorFile.from_json(file.to_json()) == file


def test_optional_fields_may_be_left_out() -> None:
    optional = ("critical_pair", "search", "validation", "baselines", "seed", "ropewalk_version")
    text = json.dumps({name: value for name, value in DOCUMENT.items() if name not in optional})
    bare = FactorFile.from_json(text)
    assert bare == replace(
        FULL, critical_pair=None, search=None, validation=None, baselines=(), seed=None, ropewalk_version=None
    )


def test_rope() -> None:
    assert FULL.rope == RopeConfig(rope_theta=1000.0, rotary_dim=8, original_max_position_embeddings=256)
    identity = ModelIdentity.of(FULL.rope, name="pocket", sha256="ab" * 32)
    assert identity == FULL.model


def _edited(pointer: str, value: object) -> str:
    """DOCUMENT with one value replaced, as text."""
    document = json.loads(json.dumps(DOCUMENT))
    *parents, last = pointer.strip("/").split("/")
    place = document
    for name in parents:
        place = place[name]
    place[int(last) if isinstance(place, list) else last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/format", "ropewalk.factors/3"),
        ("/format", 1),
        ("/model", None),
        ("/model", []),
        ("/model/name", None),
        ("/model/revision", 3),
        ("/model/sha256", False),
        ("/model/rope_theta", "1000"),
        ("/model/rope_theta", 1),
        ("/model/rotary_dim", 8.0),
        ("/model/rotary_dim", 7),
        ("/model/partial_rotary_factor", 0),
        ("/model/colour", "red"),
        ("/original_max_position_embeddings", 0),
        ("/original_max_position_embeddings", True),
        ("/target_length", 255),
        ("/target_length", "1024"),
        ("/critical_pair", 4),
        ("/critical_pair", -1),
        ("/critical_pair", 1.5),
        ("/attention_factor", None),
        ("/attention_factor", 0),
        ("/attention_factor", -1.0),
        ("/attention_factor", 10**400),
        ("/short_factor", [1.0, 1.0, 1.0]),
        ("/short_factor", {}),
        ("/short_factor/2", "1.0"),
        ("/long_factor", []),
        ("/long_factor", [1.0] * 5),
        ("/long_factor", [1.0, 2.0, 4.0, 3.9]),
        ("/long_factor", [0.5, 2.0, 4.0, 4.5]),
        ("/long_factor/1", None),
        ("/search", "srch_1"),
        ("/search/nll", -0.1),
        ("/search/nll", None),
        ("/search/trial", -1),
        ("/search/documents", 1.5),
        ("/validation/exact_match", 1.1),
        ("/validation/nll", "low"),
        ("/validation/best_baseline", None),
        ("/validation/delta_ci95", [0.1, -0.1]),
        ("/validation/delta_ci95", [0.1]),
        ("/validation/delta_ci95/0", None),
        ("/baselines", []),
        ("/baselines/pi", 3),
        ("/baselines/pi/nll", -1),
        ("/baselines/pi/exact_match", 2),
        ("/baselines/pi/perplexity", 2),
        ("/seed", "0"),
        ("/ropewalk_version", 1),
        ("/comment", "hello"),
        ("/a~0b~1c", 1),
    ],
)
def test_bad_fields_are_named_by_their_json_pointer(pointer: str, value: object) -> None:
    text = _edited(pointer.replace("~1", "\0"), value).replace("\\u0000", "/").replace("~0", "~")
    with pytest.raises(InvalidFactorFile) as caught:
        FactorFile.from_json(text)
    assert caught.value.pointer == pointer
    assert caught.value.code == "INVALID_FACTOR_FILE"
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, RopewalkError)


@pytest.mark.parametrize(
    "name",
    [
        "format",
        "model",
        "original_max_position_embeddings",
        "target_length",
        "attention_factor",
        "short_factor",
        "long_factor",
        "model/name",
        "model/rope_theta",
        "model/rotary_dim",
        "search/nll",
        "validation/delta_ci95",
        "baselines/pi/exact_match",
    ],
)
def test_missing_fields_are_named(name: str) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    *parents, last = name.split("/")
    place = document
    for parent in parents:
        place = place[parent]
    del place[last]
    with pytest.raises(InvalidFactorFile, match=f"must have the field '{last}'") as caught:
        FactorFile.from_json(json.dumps(document))
    assert caught.value.pointer == f"/{name}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be JSON"),
        ("{", "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        ("null", "must be an object"),
        ("[]", "must be an object"),
        ('{"seed": NaN}', "finite numbers only, but got NaN"),
        ('{"seed": -Infinity}', "finite numbers only"),
        ('{"seed": 1, "seed": 2}', "'seed' twice"),
        ('{"seed": ' + "9" * 10_000 + "}", "must be JSON"),
    ],
)
def test_text_that_is_no_such_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidFactorFile, match=message):
        FactorFile.from_json(text)


def test_overflowing_floats_are_refused() -> None:
    text = FULL.to_json().replace('"attention_factor": 1.0', '"attention_factor": 1e999')
    with pytest.raises(InvalidFactorFile, match="/attention_factor must be a finite number") as caught:
        FactorFile.from_json(text)
    assert caught.value.pointer == "/attention_factor"


def test_a_file_cannot_be_built_wrong() -> None:
    with pytest.raises(InvalidFactorFile, match="/long_factor must be one value per pair"):
        replace(FULL, long_factor=PairFactors((1.0,) * 3))
    with pytest.raises(InvalidFactorFile, match="/attention_factor must be a finite number"):
        replace(FULL, attention_factor=math.nan)
    with pytest.raises(InvalidFactorFile, match="/baselines must be named once each"):
        replace(FULL, baselines=FULL.baselines * 2)
