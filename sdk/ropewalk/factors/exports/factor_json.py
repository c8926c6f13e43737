"""The factor file itself."""

from __future__ import annotations

from ropewalk.factors.exports.row import ExportRow
from ropewalk.factors.factor_file import FactorFile

ROW = ExportRow(name="json", summary="the factor file", write=FactorFile.to_json, is_whole=True)
