"""What a training takes: rows as its recipe has them, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator

from finetune.config import KINDS, FinetuneSettings, Kind
from finetune.errors import InvalidFinetuneSettings
from finetune.memory import estimate, use_checkpointing
from finetune.rows import row_tokens
from search_space.candidates.cost import GRADIENT_COST, Spent
from service.plans.model import PlannedModel
from service.plans.work import Device, Work
from service.searches.training import finetune_settings
from service.specs.finetune import FinetuneOptions

_BF16_BYTES = 2
_RANK = 16  # of the adapters that are proposed where nothing else fits


def training_work(model: PlannedModel, settings: FinetuneSettings, target_length: int) -> Work:
    """Of all steps. Operations of packed rows are counted as of whole ones, which see more."""
    flops, passes, tokens, longest = 0.0, 0, 0, 0
    checkpointing = _checkpoints(model, settings, target_length)
    for kind in KINDS:
        rows = settings.rows_before(kind, settings.steps)
        if rows:
            length = _row_tokens(model, settings, kind, target_length)
            # Recomputing what was not kept is one forward pass more.
            flops += rows * (GRADIENT_COST + checkpointing) * model.outline.flops.of(length, logits=length)
            passes, tokens, longest = passes + rows, tokens + rows * length, max(longest, length)
    spent = Spent(passes=passes, tokens=tokens)
    return Work(
        name="training",
        bound="exactly",
        most=spent,
        flops=flops,
        expected=spent,
        expected_flops=flops,
        longest=longest,
        memory=_bytes(model, settings, target_length),
        devices=settings.workers,
    )


def _row_tokens(model: PlannedModel, settings: FinetuneSettings, kind: Kind, target_length: int) -> int:
    original = model.source.rope.original_max_position_embeddings
    return row_tokens(settings, kind, original_length=original, target_length=target_length)


def _checkpoints(model: PlannedModel, settings: FinetuneSettings, target_length: int) -> bool:
    return use_checkpointing(
        model.training_size(settings),
        settings,
        original_length=model.source.rope.original_max_position_embeddings,
        target_length=target_length,
        number_bytes=_BF16_BYTES,
    )


def _bytes(model: PlannedModel, settings: FinetuneSettings, target_length: int) -> int:
    return estimate(
        model.training_size(settings),
        settings,
        original_length=model.source.rope.original_max_position_embeddings,
        target_length=target_length,
        number_bytes=_BF16_BYTES,
        checkpointing=_checkpoints(model, settings, target_length),
    ).total


def training_notes(model: PlannedModel, options: FinetuneOptions, target_length: int, device: Device) -> Iterator[str]:
    """What would fit where what is asked for does not, as sentences."""
    asked = finetune_settings(options, model.source, target_length)
    needed = _bytes(model, asked, target_length)
    if device.holds(needed):
        return
    yield f"training takes about {_gib(needed)} on each device, which does not fit"
    fitting = [
        (change, memory)
        for change in _changes(device.count)
        if (memory := _memory_with(model, options, target_length, change)) is not None and device.holds(memory)
    ]
    shown = {
        len(change): f"training with {_said(change)} takes {_gib(memory)} and fits" for change, memory in fitting[::-1]
    }
    yield from [shown[size] for size in sorted(shown)]  # of those that change as much, the first
    if not fitting:
        yield "no recipe, optimiser, sharding or adapters that are known here make the training fit"


def _memory_with(
    model: PlannedModel, options: FinetuneOptions, target_length: int, change: dict[str, object]
) -> int | None:
    try:
        settings = finetune_settings(options.model_copy(update=change), model.source, target_length)
    except InvalidFinetuneSettings:
        return None
    return _bytes(model, settings, target_length)


def _changes(devices: int | None) -> Iterator[dict[str, object]]:
    lean: dict[str, object] = {"rows_per_pass": 1, "gradient_checkpointing": "on"}
    yield lean
    yield {"recipe": "one_gpu", **lean}
    yield {"recipe": "one_gpu", "optimizer": "adamw_8bit", **lean}
    yield {"recipe": "one_gpu", "optimizer": "adafactor", **lean}
    for workers in (2, 4, 8, 16, 32, 64):
        if devices is None or workers <= devices:
            yield {"recipe": "one_gpu", "workers": workers, "sharding": "fsdp", **lean}
    yield {"recipe": "one_gpu", "lora_rank": _RANK, **lean}


def _said(change: dict[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in change.items())


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
