"""What an ablation is asked: strategies x seeds x models x lengths, and the held-out documents that judge all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from service.errors import InvalidSpec
from service.specs.base import MAX_DOCUMENTS, MAX_TARGET_LENGTH, Seed, Spec, Tokens
from service.specs.search import SearchSpec, StrategySpec

BASELINES = "baselines"  # the label of the cells that score the analytic baselines

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
OVERRIDABLE = ("objective", "budget", "scorer")

EXAMPLE: dict[str, Any] = {
    "name": "population",
    "base": {
        "model": "pocket",
        "target_length": 1024,
        "objective": {"documents": 8, "validation_documents": 40},
        "budget": {"max_document_passes": 256},
    },
    "strategies": [
        {"label": "auto", "strategy": {"name": "auto"}},
        {"label": "population 8", "strategy": {"name": "evolution", "population": 8, "mutations": 4, "crossovers": 4}},
        {
            "label": "population 16, 4 documents",
            "strategy": {"name": "evolution", "population": 16, "mutations": 4, "crossovers": 4},
            "objective": {"documents": 4},
        },
    ],
    "seeds": [0, 1, 2],
    "heldout_documents": 40,
    "checkpoints": [128],
}
"""A small ablation of the pocket model: minutes on two cores."""


class AblatedStrategy(Spec):
    """A strategy of the experiment, under the name that tables and plots give it.

    Each override is laid over the base spec's part field by field.
    """

    label: Annotated[str, StringConstraints(min_length=1, max_length=60)]
    strategy: StrategySpec = StrategySpec()
    objective: dict[str, Any] = Field({}, description="fields of the base spec's objective that differ")
    budget: dict[str, Any] = Field({}, description="fields of the base spec's budget that differ")
    scorer: dict[str, Any] = Field({}, description="fields of the base spec's scorer that differ, while searching")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One unit of the experiment: a search, or the baselines of a model at a length where `strategy` is None."""

    number: int
    strategy: AblatedStrategy | None
    model: str
    target_length: int
    seed: int

    @property
    def name(self) -> str:
        """How files and Tune's trials call it: the same cell of the same spec always has the same name."""
        return f"cell-{self.number:05d}"

    def __str__(self) -> str:
        if self.strategy is None:
            return f"{BASELINES}, {self.model}, {self.target_length} tokens"
        return f"{self.strategy.label}, {self.model}, {self.target_length} tokens, seed {self.seed}"


class AblationSpec(Spec):
    """An experiment: every strategy with every seed on every model at every length.

    `base` says what the strategies have in common. Held-out documents come from the validation split with a seed of
    their own, `heldout_seed`, which no search of the experiment may use: a search draws its search and its validation
    documents with its own seed, so none of them is scored here. They are those of `base` for every strategy, and so is
    the scorer that scores them.
    """

    name: Name = Field(description="the experiment's directory, by which it is resumed")
    base: SearchSpec
    strategies: tuple[AblatedStrategy, ...] = Field(min_length=1, max_length=100)
    seeds: tuple[Seed, ...] | None = Field(None, min_length=1, max_length=1000, description="null: the base's")
    models: tuple[Annotated[str, StringConstraints(min_length=1, max_length=1024)], ...] | None = Field(
        None, min_length=1, max_length=100, description="null: the base's"
    )
    target_lengths: tuple[Annotated[Tokens, Field(ge=2, le=MAX_TARGET_LENGTH)], ...] | None = Field(
        None, min_length=1, max_length=32, description="tokens; null: the base's"
    )
    heldout_documents: int = Field(100, ge=2, le=MAX_DOCUMENTS)
    heldout_seed: Seed = 1_000_000
    checkpoints: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), max_length=32, description="search document passes at which the leader is scored on held-out documents too"
    )

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """Of the searches."""
        return self.seeds or (self.base.seed,)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        labels = [strategy.label for strategy in self.strategies]
        _check_unique("labels", labels)
        for name in ("seeds", "models", "target_lengths", "checkpoints"):
            _check_unique(name, getattr(self, name) or ())
        if BASELINES in labels:
            raise ValueError(f"a label must not be {BASELINES!r}: that is what the analytic baselines are called")
        return self

    @model_validator(mode="after")
    def _held_out_is_held_out(self) -> Self:
        if self.heldout_seed in self.all_seeds:
            raise ValueError(
                "heldout_seed must not be a seed of a search, whose validation documents it would draw again, "
                f"but got heldout_seed={self.heldout_seed}, seeds={', '.join(map(str, self.all_seeds))}"
            )
        return self

    @model_validator(mode="after")
    def _base_is_a_search_alone(self) -> Self:
        if self.base.finetune is not None or self.base.workers != 1:
            raise ValueError("base must not fine-tune and must have workers=1: cells run side by side, a scorer each")
        return self

    @model_validator(mode="after")
    def _searches_are_valid(self) -> Self:
        for strategy in self.strategies:
            try:
                self._search(strategy)
            except ValidationError as error:
                raise ValueError(f"strategy {strategy.label!r}: {first_problem(error)}") from None
        return self

    def cells(self) -> tuple[Cell, ...]:
        """Baselines first; then seed by seed, so that an experiment that is stopped early has compared something."""
        places = [
            (model, length)
            for model in self.models or (self.base.model,)
            for length in self.target_lengths or (self.base.target_length,)
        ]
        wanted: list[tuple[AblatedStrategy | None, str, int, int]] = [
            (None, model, length, self.base.seed) for model, length in places
        ]
        for seed in self.all_seeds:
            wanted += [(strategy, model, length, seed) for model, length in places for strategy in self.strategies]
        return tuple(
            Cell(number=number, strategy=strategy, model=model, target_length=length, seed=seed)
            for number, (strategy, model, length, seed) in enumerate(wanted)
        )

    def search_spec(self, cell: Cell) -> SearchSpec:
        """The search of `cell`; without a strategy, the base spec on its model at its length."""
        search = self.base if cell.strategy is None else self._search(cell.strategy)
        return search.model_copy(update={"model": cell.model, "target_length": cell.target_length, "seed": cell.seed})

    def _search(self, strategy: AblatedStrategy) -> SearchSpec:
        given = self.base.model_dump()
        for part in OVERRIDABLE:
            given[part] = {**given[part], **getattr(strategy, part)}
        return SearchSpec.model_validate({**given, "strategy": strategy.strategy.model_dump()})


def _check_unique(name: str, values: Sequence[object]) -> None:
    if len(set(values)) != len(values):
        raise ValueError(f"{name} must not repeat, but got {', '.join(map(str, values))}")


def parse_ablation(value: Mapping[str, Any]) -> AblationSpec:
    """The spec from its JSON object.

    Raises:
        InvalidSpec: a field breaks a rule; the first one is named.
    """
    try:
        return AblationSpec.model_validate(value)
    except ValidationError as error:
        raise InvalidSpec(first_problem(error)) from None


def first_problem(error: ValidationError) -> str:
    """The first field that breaks a rule, and the rule."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = "".join(f"/{part}" for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
