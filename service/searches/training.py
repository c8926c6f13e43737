"""The settings of a fine-tuning and its data, checked before the job exists."""

from evaluation.documents.corpus import load_corpus
from evaluation.documents.factory import DocumentRequest
from evaluation.models.source import ModelSource, load_tokenizer
from finetune.config import FinetuneSettings
from finetune.extras import check_installed
from finetune.mix import check_long_text, demands, estimated_sizes
from finetune.optimizers import check_optimizer
from finetune.recipes import settings_of
from finetune.rows import check_rows, skippings
from service.searches.model import document_factory
from service.specs.finetune import FinetuneOptions


def finetune_settings(spec: FinetuneOptions, source: ModelSource, target_length: int) -> FinetuneSettings:
    """The recipe with what the user set.

    Raises:
        InvalidFinetuneSettings: a value breaks a rule of the recipe, or needs a library that is not here.
    """
    given = spec.model_dump(exclude_none=True, exclude={"recipe"})
    settings = settings_of(given, spec.recipe, source, target_length=target_length)
    check_optimizer(settings.optimizer)
    if settings.lora_rank:
        check_installed("peft", extra="lora", wanted=f"lora_rank={settings.lora_rank}")
    return settings


def check_training_data(
    source: ModelSource,
    settings: FinetuneSettings,
    *,
    original_length: int,
    target_length: int,
    quickly: bool = False,
) -> None:
    """Build one training document of a kind and count the text, so that rows that fit nothing and a corpus that is
    missing or too short for the mix are told before the job exists. `quickly`: of a long corpus, which takes a while to
    be divided and counted, only that it can be read.

    Raises:
        InvalidFinetuneSettings: rows or gaps that do not fit the lengths.
        EvaluationError: what is wrong with the corpus.
    """
    check_rows(settings, original_length=original_length, target_length=target_length)
    corpus = load_corpus(settings.corpus)
    if quickly and not corpus.is_short:
        return
    if settings.needle_fraction > 0:
        for skipping in skippings(settings, original_length=original_length):
            document_factory(source, corpus).build(
                DocumentRequest(
                    target_length=settings.skipped_reach or target_length if skipping else target_length,
                    count=1,
                    seed=settings.seed,
                    split="train",
                    needles=settings.needles_per_document,
                    skipping=skipping,
                )
            )
    check_long_text(
        demands(settings, original_length=original_length, target_length=target_length),
        estimated_sizes(load_tokenizer(source), corpus, settings.corpus),
        corpus=corpus.name,
        repeats=settings.text_repeats,
    )
