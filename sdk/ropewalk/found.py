"""Found factors, as a program holds them: read, looked at, checked, written, and put into a model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ropewalk.factors.exports.registry import EXPORTS, export
from ropewalk.factors.factor_file import FactorFile


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
        return EXPORTS.find(format).notes(self.file)

    def write(self, path: str | os.PathLike[str], *, format: str = "json") -> None:
        """Write them to a file in `format`.

        Raises:
            InvalidFactorFile: as :meth:`export`; nothing is written then.
            OSError: the file cannot be written.
        """
        text = self.export(format)
        Path(path).write_text(text, encoding="utf-8")

    def __repr__(self) -> str:
        factors = self.long_factor
        return (
            f"<Factors for {self.model}: {self.original_length} -> {self.target_length} tokens, {len(factors)} pairs, "
            f"{factors[0]:.4g} to {factors[-1]:.4g}, attention factor {self.attention_factor:.4g}>"
        )
