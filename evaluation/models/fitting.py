"""Whether a factor file belongs to a model. Nothing heavy is imported: it is asked before a job is accepted."""

from __future__ import annotations

from evaluation.models.scaled import longrope_block
from evaluation.models.source import ModelSource, model_sha256, read_config
from search_space.errors import FactorsDoNotFit
from search_space.factors.factor_file import FactorFile
from search_space.factors.fitting import check_rope


def check_model(source: ModelSource, file: FactorFile) -> None:
    """The one rule of every reader: the same rotary embedding, and the same weights where the file names them.

    A checkpoint that was fine-tuned with these very factors says so in its config, and needs no equal weights.

    Raises:
        FactorsDoNotFit: the factors were found for another model; says in which field, and what to do.
        EvaluationError: the model's files cannot be read.
    """
    check_rope(file, source.rope)
    if file.model.sha256 is None or _is_trained_with(source, file):
        return
    if (found := model_sha256(source)) != file.model.sha256:
        raise FactorsDoNotFit(
            f"sha256 of the weights must be the model's, {found}, but the factor file says {file.model.sha256}: "
            "set it to null in the file to use the factors with any weights of this RoPE"
        )


def _is_trained_with(source: ModelSource, file: FactorFile) -> bool:
    block = longrope_block(read_config(source.path))
    return block is not None and block.get("long_factor") == list(file.long_factor.values)
