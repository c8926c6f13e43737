"""The factor file itself."""

from __future__ import annotations

from search_space.factors.exports.row import ExportRow
from search_space.factors.factor_file import FactorFile

ROW = ExportRow(name="json", summary="the factor file", write=FactorFile.to_json, is_whole=True)
