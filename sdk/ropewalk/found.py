"""Found factors, as a program holds them: read, looked at, checked, written, and put into a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ropewalk.factors.exports.hf import merged_config
from ropewalk.factors.exports.registry import EXPORTS, export
from ropewalk.factors.factor_file import FactorFile
from ropewalk.factors.fitting import check_config
from ropewalk.notebook import as_html

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from transformers import PreTrainedModel

    from ropewalk.models.applying import Applied

ConfigT = TypeVar("ConfigT", bound=Any)


@dataclass(frozen=True, slots=True)
class Factors:
    """Rescale factors for one model and one target length, with where they come from."""

    file: FactorFile
    """Everything that a ``factors.json`` says."""

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Factors:
        """From a ``factors.json``, or the one in a directory, such as a checkpoint's.

        Raises:
            OSError: it cannot be read.
            InvalidFactorFile: it is no factor file; `pointer` names the field at fault.
        """
        place = Path(path)
        place = place / "factors.json" if place.is_dir() else place
        return cls.from_json(place.read_text(encoding="utf-8"))

    @classmethod
    def from_json(cls, text: str) -> Factors:
        """From a factor file's text.

        Raises:
            InvalidFactorFile: it is none; `pointer` names the field at fault.
        """
        return cls(FactorFile.from_json(text))

    @property
    def model(self) -> str:
        """The name of the model that they were found for."""
        return self.file.model.name

    @property
    def original_length(self) -> int:
        """L: tokens up to which the model stays as it is."""
        return self.file.original_max_position_embeddings

    @property
    def target_length(self) -> int:
        """L': tokens that the model is extended to."""
        return self.file.target_length

    @property
    def long_factor(self) -> tuple[float, ...]:
        """lambda_i of each pair, the fastest first."""
        return self.file.long_factor.values

    @property
    def attention_factor(self) -> float:
        """What cos and sin are multiplied by past the original length."""
        return self.file.attention_factor

    def export(self, format: str = "json") -> str:
        """The text that another program loads; :meth:`notes` says what that program does with it.

        Raises:
            InvalidFactorFile: `format` is unknown, holds the model's weights too, or cannot hold these factors.
        """
        return export(self.file, format)

    def notes(self, format: str) -> tuple[str, ...]:
        """What the program that reads `format` ignores or replaces, a sentence each.

        Raises:
            InvalidFactorFile: `format` is unknown.
        """
        return EXPORTS.find(format).all_notes(self.file)

    def write(self, path: str | os.PathLike[str], *, format: str = "json") -> None:
        """Write them to a file in `format`.

        Raises:
            InvalidFactorFile: as :meth:`export`; nothing is written then.
            OSError: the file cannot be written.
        """
        text = self.export(format)
        Path(path).write_text(text, encoding="utf-8")

    def apply(self, model: PreTrainedModel) -> Applied:
        """Put them into a loaded transformers model: its own RoPE up to the original length, these past it.

        Each forward pass chooses by its longest position, for factors and attention factor alike. `remove()` of what is
        returned undoes it, and so does the end of a ``with`` block. Text that grows past the original length while it
        is generated needs :func:`ropewalk.generate`.

        Raises:
            FactorsDoNotFit: they were found for another model, or the model has factors already; it is as it was.
            UnsupportedRope: the model's rotary modules are of no known kind; it is as it was.
        """
        from ropewalk.models.applying import Applied

        return Applied(model, self.file)

    def config_for(self, config: ConfigT) -> ConfigT:
        """A copy of a model's config with these factors in it, for a checkpoint that other programs load.

        `config`: transformers' object, or the dict of a ``config.json``. transformers reads one attention factor: it
        applies this one within the original length too.

        Raises:
            FactorsDoNotFit: they were found for another model, or the config has factors already.
            InvalidFactorFile: the family's class in transformers cannot hold factors.
        """
        stated: Mapping[str, object] = config if isinstance(config, Mapping) else config.to_dict()
        check_config(self.file, stated)
        merged = merged_config(stated, self.file)
        return cast("ConfigT", merged if isinstance(config, Mapping) else type(config).from_dict(merged))

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the factors over the pairs with matplotlib, into `axes` or a new figure."""
        if axes is None:
            from matplotlib import pyplot

            _, axes = pyplot.subplots(figsize=(6, 3), layout="constrained")
        axes.semilogy(self.long_factor, drawstyle="steps-mid", label=f"{self.target_length} tokens")
        axes.axhline(self.target_length / self.original_length, color="gray", linestyle=":", label="target / original")
        axes.set(xlabel="pair, the fastest first", ylabel="factor", title=self.model)
        axes.legend()
        return axes

    def _repr_html_(self) -> str:
        return as_html(self.file)

    def __repr__(self) -> str:
        factors = self.long_factor
        return (
            f"<Factors for {self.model}: {self.original_length} -> {self.target_length} tokens, {len(factors)} pairs, "
            f"{factors[0]:.4g} to {factors[-1]:.4g}, attention factor {self.attention_factor:.4g}>"
        )
