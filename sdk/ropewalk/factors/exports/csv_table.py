"""Factors and frequencies as a table."""

from __future__ import annotations

import csv
import io
import math

from ropewalk.factors.exports.row import CSV, ExportRow
from ropewalk.factors.factor_file import FactorFile
from ropewalk.rope.config import compute_inv_freq


def _write(file: FactorFile) -> str:
    """A row per pair: its factor, its rescaled angle per position in radians, and the positions per period of that."""
    inv_freq = compute_inv_freq(file.rope, file.scaling.factors).tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("pair", "long_factor", "inv_freq", "wavelength"))
    for pair, (factor, frequency) in enumerate(zip(file.long_factor.values, inv_freq, strict=True)):
        writer.writerow((pair, repr(factor), repr(frequency), repr(2.0 * math.pi / frequency)))
    return text.getvalue()


def _notes(file: FactorFile) -> tuple[str, ...]:
    return (f"csv holds long_factor only: not short_factor, not attention_factor {file.attention_factor:.4f}.",)


ROW = ExportRow(name="csv", summary="one row per pair", write=_write, notes=_notes, media_type=CSV, is_whole=True)
