"""Which files go up: those that exports and trainings write, and no others that lie beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from api.publishing.base_model import BaseModel
from evaluation.models.user_path import is_file
from finetune.output.output_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CARD_NAME,
    CONFIG,
    FACTORS_NAME,
    INDEX,
    TOKENIZER_FILES,
    WEIGHTS,
    is_adapter,
)
from ropewalk.client.errors import BadInput
from ropewalk.errors import InvalidFactorFile
from ropewalk.factors.exports.registry import EXPORTS
from ropewalk.factors.exports.row import CSV
from ropewalk.factors.factor_file import FactorFile

_SETTINGS = (CONFIG, ADAPTER_CONFIG, "generation_config.json", "tokenizer_config.json")
"""JSON in which programs note where they read a model from."""


@dataclass(frozen=True, slots=True)
class Content:
    """A file of the repository: its text, or where it lies here."""

    path: str
    source: str | Path

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.source.encode()) if isinstance(self.source, str) else self.source.stat().st_size


def factor_contents(file: FactorFile, base: BaseModel) -> tuple[list[Content], dict[str, str]]:
    """The factors in every format that can hold them, and what each file is."""
    file = base.in_factors(file)
    contents, about = [], {}
    for name in EXPORTS.own:
        row = EXPORTS[name]
        if row.write is None:
            continue
        try:
            row.check(file)
            text = row.write(file)
        except InvalidFactorFile:  # the family's class in that program cannot hold factors
            continue
        path = FACTORS_NAME if name == "json" else "factors.csv" if row.media_type == CSV else f"{name}.json"
        contents.append(Content(path, text))
        about[path] = row.summary
    return contents, about


def checkpoint_contents(directory: Path, base: BaseModel, card: Callable[[str], str]) -> list[Content]:
    """A checkpoint's files. `card` makes the one for the Hub of its own.

    Raises:
        BadInput: something that a checkpoint has is not there.
    """
    names = [ADAPTER_CONFIG, ADAPTER_WEIGHTS] if is_adapter(directory) else [CONFIG, *_weights(directory)]
    needed = [*names, FACTORS_NAME, CARD_NAME]
    for name in needed:
        if not is_file(directory / name):
            raise BadInput(
                f"a checkpoint must hold {', '.join(needed[:1] + needed[-2:])} and its weights, but "
                f"{directory} has no {name}"
            )
    there = [name for name in TOKENIZER_FILES if is_file(directory / name)]
    return [_content(directory / name, base, card) for name in (*needed, *there)]


def _weights(directory: Path) -> list[str]:
    if not is_file(directory / INDEX):
        return [WEIGHTS]
    parts = set(json.loads((directory / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    return [INDEX, *sorted(Path(part).name for part in parts)]


def _content(path: Path, base: BaseModel, card: Callable[[str], str]) -> Content:
    if path.name == CARD_NAME:
        return Content(path.name, card(path.read_text(encoding="utf-8")))
    if path.name == FACTORS_NAME:
        return Content(path.name, base.in_factors(FactorFile.from_json(path.read_text(encoding="utf-8"))).to_json())
    if path.name in _SETTINGS:
        settings = json.loads(path.read_text(encoding="utf-8"))
        return Content(path.name, json.dumps(base.in_config(settings), indent=2, ensure_ascii=False) + "\n")
    return Content(path.name, path)
