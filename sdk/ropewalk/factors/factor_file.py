"""``factors.json``: factors with everything needed to trust and to repeat them.

Format "ropewalk.factors/1" says all there is to say of a model whose layers share one rope at the top of its config.
"ropewalk.factors/2" adds `config`: what exports must know of any other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NoReturn

import numpy as np

from ropewalk.errors import InvalidFactorFile, InvalidRescaleFactors
from ropewalk.names import at_revision
from ropewalk.reading.annotations import Bare, Keyed, Range, Sparse, Stated, Verbatim
from ropewalk.reading.reader import Unreadable, check, read, strict_json
from ropewalk.reading.writer import write
from ropewalk.rope.config import RopeConfig, absolute_factors
from ropewalk.rope.published import NO_KEYS, PLAIN_PLACE, CarriedKeys, ConfigPlace, PairFactors, PublishedScaling
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling

# Log-probabilities of low precision come out a hair above zero: as evaluation/scores/score.py has it.
Nll = Annotated[float, Range(-1e-3)]
Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(0)]
_ROUNDING = 1e-12  # of a quotient of two float64 products


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
    served_length: Annotated[int | None, Range(1), Sparse()] = None
    """Tokens that the model serves as published, where the factors were found for a shorter original length."""

    def __post_init__(self) -> None:
        _check(self, "/model")
        if self.rotary_dim % 2:
            _refuse("/model/rotary_dim", "an even number", self.rotary_dim)

    @property
    def reference(self) -> str:
        """What the model is asked for by: its name, on the Hub at the commit that the factors were found for."""
        return at_revision(self.name, self.revision)

    @classmethod
    def of(
        cls,
        rope: RopeConfig,
        *,
        name: str,
        revision: str | None = None,
        sha256: str | None = None,
        served_length: int | None = None,
    ) -> ModelIdentity:
        """The identity of a model with rotary embedding `rope`, which as published serves `served_length` tokens."""
        is_shorter = served_length is not None and rope.original_max_position_embeddings < served_length
        return cls(
            name=name,
            revision=revision,
            sha256=sha256,
            rope_theta=rope.rope_theta,
            rotary_dim=rope.rotary_dim,
            partial_rotary_factor=rope.partial_rotary_factor,
            served_length=served_length if is_shorter else None,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSummary:
    """The search and the trial that the factors come from; `nll` is in nats per answer token on search documents."""

    id: str
    trial: Count
    nll: Nll
    documents: Count
    document_passes: Count
    tokens: Annotated[Count | None, Sparse()] = None
    """Of those passes. None in files from before they were counted."""

    def __post_init__(self) -> None:
        _check(self, "/search")


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationSummary:
    """The score on documents that no candidate was searched with."""

    nll: Nll
    exact_match: Share
    documents: Count
    tokens: Annotated[Count | None, Sparse()] = None
    """That the validation of all finalists read. None in files from before they were counted."""
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
class ConfigFacts:
    """What exports need to know of the config of a model that is not plain."""

    section: Annotated[str | None, Sparse()] = None
    """The nested config that holds the rope parameters, such as text_config."""
    layer_type: Annotated[str | None, Sparse()] = None
    """The layers that are rescaled, where rope parameters differ by type of layer."""
    carried: Annotated[CarriedKeys, Verbatim(), Sparse()] = NO_KEYS
    """Rope parameters that exports repeat, because they change the model's arithmetic."""
    others: Annotated[CarriedKeys, Verbatim(), Sparse()] = NO_KEYS
    """Rope parameters of the other layer types."""
    head_dim: Annotated[int | None, Range(1), Sparse()] = None
    """To be stated in exports, because the family's own config leaves it out."""
    table_pairs: Annotated[int | None, Range(1), Sparse()] = None
    """Pairs of a rotary table of which only the first ones turn."""
    switch_length: Annotated[int | None, Range(1), Sparse()] = None
    """original_max_position_embeddings in exports, where the model's arithmetic reads it too."""
    own_switch: Annotated[int | None, Range(1), Sparse()] = None
    """Tokens up to which the model as published rotates by other factors than at its length."""
    clears_scaling: Annotated[bool, Sparse()] = False
    """Whether exports must take out a rope_scaling of the published config."""
    per_layer: Annotated[bool, Sparse()] = False
    """Whether sizes differ by layer."""
    interleaved: Annotated[bool, Sparse()] = False
    """Whether neighbours in a head are a pair, not numbers of its two halves."""
    hf_refusal: Annotated[str | None, Sparse()] = None
    """Why no config of transformers can hold factors for this family."""
    vllm_refusal: Annotated[str | None, Sparse()] = None
    """Why vLLM reads no factors from the config of this family."""
    published_rope_type: Annotated[str | None, Sparse()] = None
    """The scaling that the model comes with; short_factor has its factors."""
    published_attention_factor: Annotated[float, Range(above=0), Sparse()] = 1.0
    """A0: attention_factor has it in already."""

    def __post_init__(self) -> None:
        _check(self, "/config")

    @classmethod
    def of(cls, rope: RopeConfig) -> ConfigFacts | None:
        """Of a model; None where format 1 says everything."""
        place = rope.place
        own = {name: getattr(place, name) for name in ConfigPlace.__dataclass_fields__}
        facts = cls(**own, published_attention_factor=rope.attention_factor)
        if facts == cls():
            return None
        return replace(facts, published_rope_type=None if rope.published is None else rope.published.rope_type)

    @property
    def place(self) -> ConfigPlace:
        """Where the model's config keeps its rope parameters."""
        return ConfigPlace(**{name: getattr(self, name) for name in ConfigPlace.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True, slots=True)
class FactorFile:
    """Factors for one model and one target length. Inside L the model keeps `short_factor`, past it `long_factor`.

    Both are what a `longrope` config holds: a model's own scaling is in them, and in `attention_factor`.

    Raises:
        InvalidFactorFile: a field breaks its rule; ``pointer`` says which.
    """

    format: Annotated[Literal["ropewalk.factors/1", "ropewalk.factors/2"], Stated()] = "ropewalk.factors/1"
    model: ModelIdentity
    original_max_position_embeddings: Annotated[int, Range(1)]
    target_length: int
    critical_pair: int | None = None
    attention_factor: Annotated[float, Range(above=0)]
    short_factor: Annotated[PairFactors, Bare()]
    long_factor: Annotated[PairFactors, Bare()]
    config: Annotated[ConfigFacts | None, Sparse()] = None
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
        if (self.config is None) != (self.format == "ropewalk.factors/1"):
            _refuse("/config", "in format 2, and in it alone", self.format)
        if all(value == 1.0 for value in self.short_factor.values):
            self._check_long()
        if self.critical_pair is not None and not 0 <= self.critical_pair < num_pairs:
            _refuse("/critical_pair", f"null or a pair in [0, {num_pairs})", self.critical_pair)
        if len({result.name for result in self.baselines}) != len(self.baselines):
            _refuse("/baselines", "named once each", [result.name for result in self.baselines])

    def _check_long(self) -> None:
        try:
            RescaleFactors(self.long_factor.values)
        except InvalidRescaleFactors as error:
            raise InvalidFactorFile(f"/long_factor: {error}", pointer="/long_factor") from error

    @classmethod
    def of(
        cls, rope: RopeConfig, scaling: Scaling, *, model: ModelIdentity, target_length: int, **more: Any
    ) -> FactorFile:
        """The file of a `scaling` over a model's rotary embedding; `more` are further fields."""
        short, long = absolute_factors(rope), absolute_factors(rope, scaling.factors)
        assert long is not None  # factors are given
        facts = ConfigFacts.of(rope)
        return cls(
            format="ropewalk.factors/1" if facts is None else "ropewalk.factors/2",
            config=facts,
            model=model,
            original_max_position_embeddings=rope.original_max_position_embeddings,
            target_length=target_length,
            attention_factor=rope.attention_factor * scaling.attention_factor,
            short_factor=PairFactors((1.0,) * rope.num_pairs if short is None else tuple(short.tolist())),
            long_factor=PairFactors(tuple(long.tolist())),
            **more,
        )

    @property
    def place(self) -> ConfigPlace:
        """Where the model's config keeps its rope parameters."""
        return PLAIN_PLACE if self.config is None else self.config.place

    @property
    def own_attention_factor(self) -> float:
        """That the model comes with, A0."""
        return 1.0 if self.config is None else self.config.published_attention_factor

    @property
    def scaling(self) -> Scaling:
        """What the model runs with past L, over what it comes with.

        Raises:
            InvalidFactorFile: `long_factor` over `short_factor` is no rescaling. Such a file can be exported only.
        """
        ratios = self.long_factor.as_array() / self.short_factor.as_array()
        if any(value != 1.0 for value in self.short_factor.values):
            # The quotient of a product may miss its factor by a bit, and so the order of two equal ones.
            rounded = np.where(np.abs(ratios - 1.0) < _ROUNDING, 1.0, ratios)
            ordered = np.maximum.accumulate(rounded)
            ratios = np.where(ordered <= rounded * (1.0 + _ROUNDING), ordered, rounded)
        try:
            return Scaling(RescaleFactors(tuple(ratios.tolist())), self.attention_factor / self.own_attention_factor)
        except InvalidRescaleFactors as error:
            message = f"/long_factor must rescale what short_factor makes of the model, but over it {error}"
            raise InvalidFactorFile(message, pointer="/long_factor") from error

    @property
    def rope(self) -> RopeConfig:
        """The rotary embedding that the factors rescale."""
        facts = self.config or ConfigFacts()
        own = PublishedScaling(
            rope_type=facts.published_rope_type or "default",
            factors=self.short_factor,
            attention_factor=self.own_attention_factor,
        )
        is_plain = own.attention_factor == 1.0 and all(value == 1.0 for value in self.short_factor.values)
        return RopeConfig(
            rope_theta=self.model.rope_theta,
            rotary_dim=self.model.rotary_dim,
            original_max_position_embeddings=self.original_max_position_embeddings,
            partial_rotary_factor=self.model.partial_rotary_factor,
            published=None if is_plain else own,
            place=self.place,
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
