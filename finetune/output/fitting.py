"""Whether a model can be trained with a factor file; nothing heavy is imported, because the API asks too."""

from __future__ import annotations

from evaluation.models.fitting import check_model
from evaluation.models.source import ModelSource
from ropewalk.errors import FactorsDoNotFit
from ropewalk.factors.factor_file import FactorFile


def check_fits(source: ModelSource, file: FactorFile) -> None:
    """Raise FactorsDoNotFit unless the factor file is for exactly this model and asks for a longer window."""
    check_model(source, file)
    original = file.original_max_position_embeddings
    if file.target_length <= original:
        raise FactorsDoNotFit(
            f"target_length must be above the original length to train on, but got target_length={file.target_length}, "
            f"original_max_position_embeddings={original}"
        )
