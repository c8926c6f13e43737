"""``factors.json``: factors with everything needed to trust and to repeat them. Format "ropewalk.factors/1"."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Literal, NoReturn

from search_space.errors import InvalidFactorFile
from search_space.reading.annotations import Bare, Keyed, Range, Sparse, Stated
from search_space.reading.reader import Unreadable, check, read, strict_json
from search_space.reading.writer import write
from search_space.rope.config import RopeConfig
from search_space.rope.rescale_factors import RescaleFactors
from search_space.rope.scaling import Scaling

# Log-probabilities of low precision come out a hair above zero: as evaluation/scores/score.py has it.
Nll = Annotated[float, Range(-1e-3)]
Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(0)]


def _refuse(pointer: str, rule: str, value: object) -> NoReturn:
    raise InvalidFactorFile(f"{pointer} must be {rule}, but got {value!r}", pointer=pointer)


def _check(part: object, pointer: str) -> None:
    """Raise :class:`InvalidFactorFile` for a field of `part`, which stands at `pointer`, out of its range."""
    try:
        check(part, pointer)
    except Unreadable as problem:
        raise InvalidFactorFile(str(problem), pointer=problem.pointer) from problem


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelIdentity:
    """Which checkpoint the factors are for."""

    name: str
    revision: str | None = None
    sha256: str | None = None
    """Of its weight files; null when none were read."""
    rope_theta: Annotated[float, Range(above=1)]
    rotary_dim: Annotated[int, Range(2)]
    partial_rotary_factor: Annotated[float, Range(above=0, most=1), Sparse()] = 1.0
    """rotary_dim / head_dim; exports need it for models that rotate a part of each head."""

    def __post_init__(self) -> None:
        _check(self, "/model")
        if self.rotary_dim % 2:
            _refuse("/model/rotary_dim", "an even number", self.rotary_dim)

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
    trial: Count
    nll: Nll
    documents: Count
    document_passes: Count

    def __post_init__(self) -> None:
        _check(self, "/search")


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationSummary:
    """The score on documents that no candidate was searched with."""

    nll: Nll
    exact_match: Share
    documents: Count
    best_baseline: str
    best_baseline_nll: Nll
    delta_ci95: tuple[float, float]
    """Bounds of the mean of nll(factors) - nll(best_baseline), paired by document, in nats per answer token: factors
    that beat the best baseline have both below 0."""

    def __post_init__(self) -> None:
        _check(self, "/validation")
        low, high = self.delta_ci95
        if low > high:
            _refuse("/validation/delta_ci95", "two numbers, the lower one first", self.delta_ci95)


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineResult:
    """A baseline's score on the validation documents."""

    name: str
    nll: Nll
    exact_match: Share
    documents: Annotated[Count | None, Sparse()] = None
    """How many documents it was scored on: the race drops weak ones early. None in files from before that was kept."""

    def __post_init__(self) -> None:
        _check(self, f"/baselines/{self.name}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FactorFile:
    """Factors for one model and one target length. Inside L the model keeps `short_factor`, past it `long_factor`.

    Raises:
        InvalidFactorFile: a field breaks its rule; ``pointer`` says which.
    """

    format: Annotated[Literal["ropewalk.factors/1"], Stated()] = "ropewalk.factors/1"
    model: ModelIdentity
    original_max_position_embeddings: Annotated[int, Range(1)]
    target_length: int
    critical_pair: int | None = None
    attention_factor: Annotated[float, Range(above=0)]
    short_factor: Annotated[RescaleFactors, Bare()]
    long_factor: Annotated[RescaleFactors, Bare()]
    search: SearchSummary | None = None
    validation: ValidationSummary | None = None
    baselines: Annotated[tuple[BaselineResult, ...], Keyed("name")] = ()
    seed: int | None = None
    ropewalk_version: str | None = None

    def __post_init__(self) -> None:
        _check(self, "")
        length = self.original_max_position_embeddings
        if self.target_length < length:
            _refuse("/target_length", f"at least original_max_position_embeddings={length}", self.target_length)
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
        return json.dumps(write(self), indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> FactorFile:
        """Read and check a file's text.

        Raises:
            InvalidFactorFile: no JSON, a missing, unknown or ill-typed field, or a value that breaks its rule.
        """
        try:
            value = strict_json(text)
        except ValueError as error:
            raise InvalidFactorFile(f"a factor file must be JSON: {error}") from error
        try:
            return read(cls, value)
        except Unreadable as problem:
            raise InvalidFactorFile(str(problem), pointer=problem.pointer) from problem
