"""Which programs could load factors of a model, by what each export says to a file of analytic ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from finetune.output.gguf import MODEL_TYPES
from ropewalk.errors import InvalidFactorFile
from ropewalk.factors.exports.registry import EXPORTS
from ropewalk.factors.exports.row import ExportRow
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.wire.inspection import Consumer
from search_space.candidates.baselines import baseline

if TYPE_CHECKING:
    from evaluation.architecture.reading import Architecture


def consumers(architecture: Architecture, *, name: str, target_length: int) -> Iterator[Consumer]:
    """One for each export that is a part of another program's files."""
    rope = architecture.rope
    file = FactorFile.of(
        rope,
        baseline("yarn", rope, target_length).scaling,
        model=ModelIdentity.of(rope, name=name),
        target_length=target_length,
    )
    for row in EXPORTS.values():
        if not row.is_whole:
            reason = _refusal(row, file, architecture.model_type)
            yield Consumer(format=row.name, summary=row.summary, loads=reason is None, reason=reason)


def _refusal(row: ExportRow, file: FactorFile, model_type: str) -> str | None:
    try:
        row.check(file)
        row.notes(file)
        if row.write is not None:
            row.write(file)
        elif model_type not in MODEL_TYPES:
            return (
                "llama.cpp reads rope factors from models of the transformers types "
                f"{', '.join(sorted(MODEL_TYPES))} only, but this one is {model_type}"
            )
    except InvalidFactorFile as error:
        return str(error)
    return None
