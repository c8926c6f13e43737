"""Whether a factor file belongs to a model. Nothing heavy is imported: it is asked before a job is accepted."""

from __future__ import annotations

from collections.abc import Mapping

from evaluation.models.source import ModelSource, model_sha256, read_config, resolve_model
from ropewalk.errors import FactorsDoNotFit
from ropewalk.factors.factor_file import FactorFile
from ropewalk.factors.fitting import check_length, check_rope


def resolve_for(file: FactorFile, name: str) -> ModelSource:
    """The model called `name`, read for the original length of `file`, which may be shorter than the model's own.

    Raises:
        FactorsDoNotFit: it is longer.
        EvaluationError, RopewalkError: from resolving the model.
    """
    source, length = resolve_model(name), file.original_max_position_embeddings
    served = source.rope.original_max_position_embeddings
    if length == served or _is_trained_with(source, file):
        return source
    check_length(file, served)
    return resolve_model(name, original_length=length)


def check_model(source: ModelSource, file: FactorFile) -> None:
    """The one rule of every reader: the same rotary embedding, and the same weights where the file names them.

    A checkpoint that was fine-tuned with these very factors says so in its config, and needs neither.

    Raises:
        FactorsDoNotFit: the factors were found for another model; says in which field, and what to do.
        EvaluationError: the model's files cannot be read.
    """
    if _is_trained_with(source, file):
        return
    check_rope(file, source.rope)
    if file.model.sha256 is None:
        return
    if (found := model_sha256(source)) != file.model.sha256:
        raise FactorsDoNotFit(
            f"sha256 of the weights must be the model's, {found}, but the factor file says {file.model.sha256}: "
            "set it to null in the file to use the factors with any weights of this RoPE"
        )


def _is_trained_with(source: ModelSource, file: FactorFile) -> bool:
    """Whether the config holds the factors where a checkpoint of this file's model has them."""
    config: object = read_config(source.path)
    for key in (file.place.section, "rope_parameters", file.place.layer_type):
        if key is not None:
            config = config.get(key) if isinstance(config, Mapping) else None
    return isinstance(config, Mapping) and config.get("long_factor") == list(file.long_factor.values)
