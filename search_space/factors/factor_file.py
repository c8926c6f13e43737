"""``factors.json``: factors with everything needed to trust and to repeat them. Format "ropewalk.factors/1"."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import NoReturn

from search_space.errors import InvalidFactorFile, InvalidRescaleFactors
from search_space.factors.json_reader import JsonReader
from search_space.rope.config import RopeConfig
from search_space.rope.rescale_factors import RescaleFactors
from search_space.rope.scaling import Scaling, is_attention_factor

FORMAT = "ropewalk.factors/1"
_ROUNDING_NATS = (
    1e-3  # log-probabilities of low precision come out a hair above zero: as evaluation/scores/score.py has it
)


def _refuse(pointer: str, rule: str, value: object) -> NoReturn:
    raise InvalidFactorFile(f"{pointer} must be {rule}, but got {value!r}", pointer=pointer)


def _check_nll(pointer: str, nll: float) -> None:
    if not (math.isfinite(nll) and nll >= -_ROUNDING_NATS):
        _refuse(pointer, "a finite number of nats per answer token, at least 0", nll)


def _check_share(pointer: str, share: float) -> None:
    if not 0.0 <= share <= 1.0:
        _refuse(pointer, "a share in [0, 1]", share)


def _check_count(pointer: str, count: int) -> None:
    if count < 0:
        _refuse(pointer, "at least 0", count)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelIdentity:
    """Which checkpoint the factors are for. `sha256` covers its weight files; None when none were read.

    `partial_rotary_factor` is rotary_dim / head_dim; exports need it for models that rotate a part of each head.
    """

    name: str
    rope_theta: float
    rotary_dim: int
    revision: str | None = None
    sha256: str | None = None
    partial_rotary_factor: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rope_theta) and self.rope_theta > 1):
            _refuse("/model/rope_theta", "a finite number above 1", self.rope_theta)
        if self.rotary_dim < 2 or self.rotary_dim % 2:
            _refuse("/model/rotary_dim", "a positive even number", self.rotary_dim)
        if not 0 < self.partial_rotary_factor <= 1:
            _refuse("/model/partial_rotary_factor", "in (0, 1]", self.partial_rotary_factor)

    @classmethod
    def of(
        cls, rope: RopeConfig, *, name: str, revision: str | None = None, sha256: str | None = None
    ) -> ModelIdentity:
        """The identity of a model with rotary embedding `rope`."""
        return cls(
            name=name,
            revision=revision,
            sha256=sha256,
            rope_theta=rope.rope_theta,
            rotary_dim=rope.rotary_dim,
            partial_rotary_factor=rope.partial_rotary_factor,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSummary:
    """The search and the trial that the factors come from; `nll` is in nats per answer token on search documents."""

    id: str
    trial: int
    nll: float
    documents: int
    document_passes: int

    def __post_init__(self) -> None:
        _check_nll("/search/nll", self.nll)
        for name, count in (
            ("trial", self.trial),
            ("documents", self.documents),
            ("document_passes", self.document_passes),
        ):
            _check_count(f"/search/{name}", count)


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationSummary:
    """The score on documents that no candidate was searched with.

    `delta_ci95` bounds the mean of nll(factors) - nll(best_baseline), paired by document, in nats per answer token:
    factors that beat the best baseline have both bounds below 0.
    """

    nll: float
    exact_match: float
    documents: int
    best_baseline: str
    best_baseline_nll: float
    delta_ci95: tuple[float, float]

    def __post_init__(self) -> None:
        _check_nll("/validation/nll", self.nll)
        _check_share("/validation/exact_match", self.exact_match)
        _check_count("/validation/documents", self.documents)
        _check_nll("/validation/best_baseline_nll", self.best_baseline_nll)
        low, high = self.delta_ci95
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            _refuse("/validation/delta_ci95", "two finite numbers, the lower one first", self.delta_ci95)


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineResult:
    """A baseline's score on the validation documents."""

    name: str
    nll: float
    exact_match: float
    documents: int | None = None
    """How many documents it was scored on: the race drops weak ones early. None in files from before that was kept."""

    def __post_init__(self) -> None:
        if self.documents is not None:
            _check_count(f"/baselines/{self.name}/documents", self.documents)
        _check_nll(f"/baselines/{self.name}/nll", self.nll)
        _check_share(f"/baselines/{self.name}/exact_match", self.exact_match)


@dataclass(frozen=True, kw_only=True, slots=True)
class FactorFile:
    """Factors for one model and one target length. Inside L the model keeps `short_factor`, past it `long_factor`.

    Raises:
        InvalidFactorFile: a field breaks its rule; ``pointer`` says which.
    """

    model: ModelIdentity
    original_max_position_embeddings: int
    target_length: int
    attention_factor: float
    short_factor: RescaleFactors
    long_factor: RescaleFactors
    critical_pair: int | None = None
    search: SearchSummary | None = None
    validation: ValidationSummary | None = None
    baselines: tuple[BaselineResult, ...] = ()
    seed: int | None = None
    ropewalk_version: str | None = None

    def __post_init__(self) -> None:
        length = self.original_max_position_embeddings
        if length < 1:
            _refuse("/original_max_position_embeddings", "positive", length)
        if self.target_length < length:
            _refuse("/target_length", f"at least original_max_position_embeddings={length}", self.target_length)
        if not is_attention_factor(self.attention_factor):
            _refuse("/attention_factor", "finite and positive", self.attention_factor)
        num_pairs = self.model.rotary_dim // 2
        for name, factors in (("short_factor", self.short_factor), ("long_factor", self.long_factor)):
            if len(factors) != num_pairs:
                _refuse(f"/{name}", f"one value per pair (rotary_dim / 2 = {num_pairs})", f"{len(factors)} values")
        if self.critical_pair is not None and not 0 <= self.critical_pair < num_pairs:
            _refuse("/critical_pair", f"null or a pair in [0, {num_pairs})", self.critical_pair)
        if len({result.name for result in self.baselines}) != len(self.baselines):
            _refuse("/baselines", "named once each", [result.name for result in self.baselines])

    @property
    def scaling(self) -> Scaling:
        """What the model runs with past L."""
        return Scaling(self.long_factor, self.attention_factor)

    @property
    def rope(self) -> RopeConfig:
        """The rotary embedding that the factors rescale."""
        return RopeConfig(
            rope_theta=self.model.rope_theta,
            rotary_dim=self.model.rotary_dim,
            original_max_position_embeddings=self.original_max_position_embeddings,
            partial_rotary_factor=self.model.partial_rotary_factor,
        )

    def to_json(self) -> str:
        """The file's text. Floats are written so that reading gives the same bits back."""
        return json.dumps(_to_dict(self), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> FactorFile:
        """Read and check a file's text.

        Raises:
            InvalidFactorFile: no JSON, a missing, unknown or ill-typed field, or a value that breaks its rule.
        """
        fields = JsonReader.parse(text).object(required=_REQUIRED, optional=_OPTIONAL)
        if fields["format"].text() != FORMAT:
            fields["format"].fail(f"must be {FORMAT!r}")
        return cls(
            model=_read_model(fields["model"]),
            original_max_position_embeddings=fields["original_max_position_embeddings"].integer(),
            target_length=fields["target_length"].integer(),
            attention_factor=fields["attention_factor"].number(),
            short_factor=_read_factors(fields["short_factor"]),
            long_factor=_read_factors(fields["long_factor"]),
            critical_pair=_optional_int(fields["critical_pair"]),
            search=None if fields["search"].is_null else _read_search(fields["search"]),
            validation=None if fields["validation"].is_null else _read_validation(fields["validation"]),
            baselines=() if fields["baselines"].is_null else _read_baselines(fields["baselines"]),
            seed=_optional_int(fields["seed"]),
            ropewalk_version=_optional_text(fields["ropewalk_version"]),
        )


_REQUIRED = (
    "format",
    "model",
    "original_max_position_embeddings",
    "target_length",
    "attention_factor",
    "short_factor",
    "long_factor",
)
_OPTIONAL = ("critical_pair", "search", "validation", "baselines", "seed", "ropewalk_version")


def _to_dict(file: FactorFile) -> dict[str, object]:
    return {
        "format": FORMAT,
        "model": _model_dict(file.model),
        "original_max_position_embeddings": file.original_max_position_embeddings,
        "target_length": file.target_length,
        "critical_pair": file.critical_pair,
        "attention_factor": file.attention_factor,
        "short_factor": list(file.short_factor.values),
        "long_factor": list(file.long_factor.values),
        "search": None if file.search is None else _search_dict(file.search),
        "validation": None if file.validation is None else _validation_dict(file.validation),
        "baselines": {result.name: _baseline_object(result) for result in file.baselines},
        "seed": file.seed,
        "ropewalk_version": file.ropewalk_version,
    }


def _model_dict(model: ModelIdentity) -> dict[str, object]:
    result: dict[str, object] = {
        "name": model.name,
        "revision": model.revision,
        "sha256": model.sha256,
        "rope_theta": model.rope_theta,
        "rotary_dim": model.rotary_dim,
    }
    if model.partial_rotary_factor != 1.0:
        result["partial_rotary_factor"] = model.partial_rotary_factor
    return result


def _search_dict(search: SearchSummary) -> dict[str, object]:
    return {
        "id": search.id,
        "trial": search.trial,
        "nll": search.nll,
        "documents": search.documents,
        "document_passes": search.document_passes,
    }


def _validation_dict(validation: ValidationSummary) -> dict[str, object]:
    return {
        "nll": validation.nll,
        "exact_match": validation.exact_match,
        "documents": validation.documents,
        "best_baseline": validation.best_baseline,
        "best_baseline_nll": validation.best_baseline_nll,
        "delta_ci95": list(validation.delta_ci95),
    }


def _read_model(reader: JsonReader) -> ModelIdentity:
    fields = reader.object(
        required=("name", "rope_theta", "rotary_dim"), optional=("revision", "sha256", "partial_rotary_factor")
    )
    partial = fields["partial_rotary_factor"]
    return ModelIdentity(
        name=fields["name"].text(),
        rope_theta=fields["rope_theta"].number(),
        rotary_dim=fields["rotary_dim"].integer(),
        revision=_optional_text(fields["revision"]),
        sha256=_optional_text(fields["sha256"]),
        partial_rotary_factor=1.0 if partial.is_null else partial.number(),
    )


def _read_factors(reader: JsonReader) -> RescaleFactors:
    values = tuple(item.number() for item in reader.items())
    try:
        return RescaleFactors(values)
    except InvalidRescaleFactors as error:
        raise InvalidFactorFile(f"{reader.pointer}: {error}", pointer=reader.pointer) from error


def _read_search(reader: JsonReader) -> SearchSummary:
    fields = reader.object(required=("id", "trial", "nll", "documents", "document_passes"))
    return SearchSummary(
        id=fields["id"].text(),
        trial=fields["trial"].integer(),
        nll=fields["nll"].number(),
        documents=fields["documents"].integer(),
        document_passes=fields["document_passes"].integer(),
    )


def _read_validation(reader: JsonReader) -> ValidationSummary:
    fields = reader.object(
        required=("nll", "exact_match", "documents", "best_baseline", "best_baseline_nll", "delta_ci95")
    )
    interval = fields["delta_ci95"].items()
    if len(interval) != 2:
        fields["delta_ci95"].fail("must hold two numbers")
    return ValidationSummary(
        nll=fields["nll"].number(),
        exact_match=fields["exact_match"].number(),
        documents=fields["documents"].integer(),
        best_baseline=fields["best_baseline"].text(),
        best_baseline_nll=fields["best_baseline_nll"].number(),
        delta_ci95=(interval[0].number(), interval[1].number()),
    )


def _baseline_object(result: BaselineResult) -> dict[str, object]:
    known = {} if result.documents is None else {"documents": result.documents}
    return {"nll": result.nll, "exact_match": result.exact_match, **known}


def _read_baselines(reader: JsonReader) -> tuple[BaselineResult, ...]:
    result = []
    for name, member in reader.members():
        fields = member.object(required=("nll", "exact_match"), optional=("documents",))
        documents = fields["documents"]
        result.append(
            BaselineResult(
                name=name,
                nll=fields["nll"].number(),
                exact_match=fields["exact_match"].number(),
                documents=None if documents.is_null else documents.integer(),
            )
        )
    return tuple(result)


def _optional_int(reader: JsonReader) -> int | None:
    return None if reader.is_null else reader.integer()


def _optional_text(reader: JsonReader) -> str | None:
    return None if reader.is_null else reader.text()
