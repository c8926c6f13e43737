"""Keys of a transformers ``config.json`` with the found factors at every length.

For readers that cannot change factors from one pass to the next: transformers 5.19 fails in its second long pass where
rope parameters differ by layer type, and a cache that was begun within the original length is rotated by other factors.
"""

from __future__ import annotations

import json
from dataclasses import replace

from ropewalk.errors import InvalidFactorFile
from ropewalk.factors.exports.hf import hf_config_fragment
from ropewalk.factors.exports.row import ExportRow
from ropewalk.factors.factor_file import FactorFile


def _write(file: FactorFile) -> str:
    if file.place.switch_length is not None:
        raise InvalidFactorFile(
            "hf-long must move original_max_position_embeddings to the target length, but the model's attention reads "
            f"it too ({file.place.switch_length}): use hf"
        )
    everywhere = replace(file, original_max_position_embeddings=file.target_length, short_factor=file.long_factor)
    # With short factors that are the long ones, what goes with them is their attention factor.
    fragment = hf_config_fragment(everywhere, short_mscale=file.attention_factor)
    return json.dumps(fragment, indent=2, allow_nan=False) + "\n"


def _notes(file: FactorFile) -> tuple[str, ...]:
    return (
        f"hf-long uses long_factor and attention_factor {file.attention_factor:.4f} at every length: up to "
        f"{file.original_max_position_embeddings} tokens the model is not the one it was.",
    )


ROW = ExportRow(
    name="hf-long", summary="keys of config.json to merge: the long factors at every length", write=_write, notes=_notes
)
