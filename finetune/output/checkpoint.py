"""Writing the trained model as a directory that other programs load unchanged.

    config.json            the model's own, with `longrope`: see `longrope_config`
    model.safetensors      trained weights, float32
    tokenizer files        copied from the source
    factors.json           the factor file trained with
    README.md              the model card

The directory appears whole or not at all: everything is written beside it and renamed into place.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from evaluation.architecture.verifying import check_loads
from evaluation.models.source import ModelSource, read_config
from finetune.errors import ModelNotTrainable, OutputNotEmpty
from finetune.output.output_files import CARD_NAME, FACTORS_NAME, TOKENIZER_FILES
from ropewalk.errors import RopewalkError
from ropewalk.factors.exports.hf import merged_config
from ropewalk.factors.factor_file import FactorFile


def check_output(output: Path) -> None:
    """Raise OutputNotEmpty when `output` is a file or a directory that holds anything."""
    if output.is_dir() and not any(output.iterdir()):
        return
    if output.exists() or output.is_symlink():
        raise OutputNotEmpty(f"the output must be a new or an empty directory, but got output={output}")


def longrope_config(config: PreTrainedConfig, file: FactorFile) -> PreTrainedConfig:
    """The model's config with `longrope`: factors, both lengths at both places, and the attention factor three times.

    transformers reads `attention_factor`, vLLM `short_mscale` and `long_mscale`; `factor` is exactly L'/L, and
    `original_max_position_embeddings` is at the top level too, because without it either program falls back silently.
    Short windows were trained with the attention factor, so that is what short texts are to be served with.
    """
    updated: PreTrainedConfig = type(config).from_dict(_trained_config(config.to_dict(), file))
    return updated


def _trained_config(config: Mapping[str, object], file: FactorFile) -> dict[str, object]:
    return merged_config(config, file, short_mscale=file.attention_factor)


def check_output_config(model: PreTrainedModel, source: ModelSource, file: FactorFile) -> None:
    """Raise ModelNotTrainable unless the config that `write_checkpoint` would write loads as what is trained."""
    own = _refusal(model.config.to_dict(), file)
    if own is not None and _refusal(read_config(source.path), file) is not None:
        raise ModelNotTrainable(
            f"the trained model must load from its config, but {type(model).__name__} would not: {own}"
        )


def _refusal(config: Mapping[str, object], file: FactorFile) -> str | None:
    try:
        check_loads(config, file)
    except RopewalkError as error:
        return str(error)
    return None


def _write_config(model: PreTrainedModel, source: ModelSource, file: FactorFile, directory: Path) -> None:
    """As the class writes it, or from the published one where the class cannot read back what it writes (DBRX)."""
    if _refusal(model.config.to_dict(), file) is None:
        longrope_config(model.config, file).save_pretrained(directory)
        return
    merged = _trained_config(read_config(source.path), file)
    (directory / "config.json").write_text(json.dumps(merged, indent=2) + "\n", encoding="utf-8")


def write_checkpoint(
    model: PreTrainedModel,
    *,
    source: ModelSource,
    file: FactorFile,
    model_card: str,
    output: Path,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write the checkpoint directory `output`; `weights` instead of the model's own where those are sharded.

    Raises OutputNotEmpty, or OSError when the disk does not take it.
    """

    def write_model(directory: Path) -> None:
        with no_progress_bars():
            model.save_pretrained(directory, state_dict=None if weights is None else dict(weights))
        _write_config(model, source, file, directory)

    write_output(write_model, source=source, file=file, model_card=model_card, output=output)


def write_output(
    write_model: Callable[[Path], None], *, source: ModelSource, file: FactorFile, model_card: str, output: Path
) -> None:
    """What every output directory has, around the files that `write_model` puts there. Raises as `write_checkpoint`."""
    check_output(output)
    with _appearing_whole(output) as directory:
        write_model(directory)
        _copy_tokenizer(source.path, directory, file.target_length)
        (directory / FACTORS_NAME).write_text(file.to_json(), encoding="utf-8")
        (directory / CARD_NAME).write_text(model_card, encoding="utf-8")


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers' bars off the terminal, which belongs to the caller, while it saves."""
    were_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if were_on:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def _appearing_whole(output: Path) -> Iterator[Path]:
    """A directory beside `output` that takes its place when the block ends well and vanishes when it does not."""
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        scratch.chmod(0o755)  # mkdtemp makes it private
        yield scratch
        try:
            scratch.rename(output)  # replaces an empty directory, refuses any other
        except OSError as error:
            check_output(output)
            raise error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _copy_tokenizer(source: Path, target: Path, target_length: int) -> None:
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    settings_path = target / "tokenizer_config.json"
    if settings_path.is_file():
        settings = json.loads(settings_path.read_text(encoding="utf-8"))
        # Else tokenizers warn about, or cut, what the model can now read.
        if isinstance(settings.get("model_max_length"), int) and settings["model_max_length"] < target_length:
            settings["model_max_length"] = target_length
            settings_path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
