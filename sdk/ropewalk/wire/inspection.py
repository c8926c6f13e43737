"""What an inspection says. Everything here is frozen; lengths are in tokens, sizes in bytes."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

DOCUMENTED = ConfigDict(use_attribute_docstrings=True)


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class OwnScaling:
    """The scaling that a model comes with, which rescale factors multiply."""

    rope_type: str
    """transformers' name for it."""
    smallest_factor: Positive
    """lambda0 of the pair that it slows down least."""
    largest_factor: Positive
    attention_factor: Positive
    """A0: what it multiplies cos and sin by."""


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class Rotation:
    """The rotary embedding that a search rescales."""

    rope_theta: Positive
    rotary_dim: Annotated[int, Field(ge=2)]
    """Dimensions of a head that rotate, two for each pair."""
    num_pairs: Annotated[int, Field(ge=1)]
    pairs_beyond_length: Count
    """Pairs that do not complete a period within L: positions past L turn them to angles that training never showed."""
    theoretical_critical_pair: Count
    ten_period_critical_pair: Count
    own_scaling: OwnScaling | None
    """null for a model without any."""


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class LayerFacts:
    """What the layers see, and which of them factors change."""

    kinds: tuple[str, ...]
    """Each kind, how many there are and what it does, as a sentence."""
    reach: int | None
    """Tokens that can change what is predicted at the last one, through all windows together; null: all of them."""
    rotary_window: int | None
    """The widest window of a layer that rotates; null: one sees everything."""
    rescaled: str
    """The layers that rescale factors change, and what stays as it is, as a clause."""


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class Consumer:
    """Whether a program could load rescale factors of this model."""

    format: str
    """The export format for it."""
    summary: str
    """What that format holds."""
    loads: bool
    reason: str | None
    """Why not; null where it does."""


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class Memory:
    """What the model takes, from its modules without weights."""

    parameters: Count
    dtype: str
    """The precision that the config states, in which both sizes are given; quantised weights take less."""
    weight_bytes: Count
    kv_cache_bytes: Count
    """Of one sequence of the target length; layers with a window keep no more than it."""


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class Prior:
    """What published work leads one to expect of such a model. Only an evaluation decides."""

    fact: str
    """What holds of this model."""
    evidence: str
    """What was found for models of which it holds."""
    source: str


@dataclass(frozen=True, kw_only=True, slots=True, config=DOCUMENTED)
class Inspection:
    """A model as its own code in transformers reads its config, and what an extension to a target length meets."""

    model: str
    revision: str | None
    """The Hub's commit; null for a directory."""
    model_type: str
    model_class: str
    """Of transformers."""
    original_length: Annotated[int, Field(ge=1)]
    """L."""
    original_length_from: Literal["original_length", "max_position_embeddings", "scaling"]
    """Given as original_length, stated in the config, or what the model's own scaling makes of a shorter one."""
    target_length: Annotated[int, Field(ge=1)]
    """L'."""
    rotation: Rotation
    layers: LayerFacts
    consumers: tuple[Consumer, ...]
    memory: Memory
    warnings: tuple[str, ...]
    """What stands against this target length, or against rescaling this model at all."""
    priors: tuple[Prior, ...]
