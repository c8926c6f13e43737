"""Export formats by name, and those of installed packages (entry points `ropewalk.exports`)."""

from __future__ import annotations

from ropewalk.errors import InvalidFactorFile
from ropewalk.factors.exports import csv_table, factor_json, gguf, hf, hf_long, mlx, vllm
from ropewalk.factors.exports.row import ExportRow
from ropewalk.factors.factor_file import FactorFile
from ropewalk.registry import Registry

EXPORTS = Registry(
    "export format",
    factor_json.ROW,
    hf.ROW,
    hf_long.ROW,
    vllm.ROW,
    mlx.ROW,
    csv_table.ROW,
    gguf.ROW,
    refusal=InvalidFactorFile,
    kind=ExportRow,
    group="ropewalk.exports",
)


def export(file: FactorFile, format: str) -> str:
    """`file` as text in `format`.

    Raises:
        InvalidFactorFile: `format` is unknown, holds the model's weights too, or cannot hold the attention factor.
    """
    write = EXPORTS.find(format).write
    if write is None:
        written = ", ".join(name for name, row in EXPORTS.items() if row.write is not None)
        raise InvalidFactorFile(
            f"export format without the model's weights must be one of {written}, but got {format!r}"
        )
    return write(file)
