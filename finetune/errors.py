"""What this room refuses, and why.

FinetuneError
├── InvalidFinetuneSettings   a setting breaks its range
├── OutputNotEmpty            the checkpoint's directory already holds something
├── UnsupportedGguf           a GGUF that the factors cannot be written into
├── ModelNotTrainable         the model cannot be loaded, or its rotary tables or its attention cannot be steered
├── NotEnoughMemory           the training does not fit the device; estimated before the first step
├── CannotResume              the state to resume from belongs to another training
├── InvalidAdapter            a directory that is no adapter written by a fine-tuning job
├── MixedWindow               one forward pass would mix original RoPE and long factors (our own mistake)
├── TrainingDiverged          a loss is not finite
└── TrainingStopped           the caller asked to stop; no checkpoint was written
"""


class FinetuneError(Exception):
    """Anything this room refuses."""

    code = "FINETUNE_ERROR"
    pointer: str = ""
    """The field of a spec that it is about, where that is known."""


class InvalidFinetuneSettings(FinetuneError, ValueError):
    """A setting breaks its range."""

    code = "INVALID_FINETUNE_SETTINGS"


class OutputNotEmpty(FinetuneError, ValueError):
    """The checkpoint's directory already holds something; nothing is overwritten."""

    code = "OUTPUT_NOT_EMPTY"


class UnsupportedGguf(FinetuneError, ValueError):
    """The file is no GGUF of a whole, unscaled model whose architecture llama.cpp scales by factors."""

    code = "UNSUPPORTED_GGUF"


class ModelNotTrainable(FinetuneError, ValueError):
    """The model does not load, or its rotary tables or its attention cannot be steered from outside."""

    code = "MODEL_NOT_TRAINABLE"


class NotEnoughMemory(FinetuneError, ValueError):
    """The training would not fit the device; the message has the estimate."""

    code = "NOT_ENOUGH_MEMORY"


class CannotResume(FinetuneError, ValueError):
    """The state to resume from belongs to another model, other factors, other settings or other workers."""

    code = "CANNOT_RESUME"


class InvalidAdapter(FinetuneError, ValueError):
    """The directory is no adapter that a fine-tuning job has written."""

    code = "INVALID_ADAPTER"


class MixedWindow(FinetuneError, RuntimeError):
    """A forward pass does not agree with the rotary mode that is switched on."""

    code = "MIXED_WINDOW"


class TrainingDiverged(FinetuneError, RuntimeError):
    """A loss is not finite. Nothing was written."""

    code = "TRAINING_DIVERGED"


class TrainingStopped(FinetuneError, RuntimeError):
    """The caller asked to stop before the last step. Nothing was written."""

    code = "TRAINING_STOPPED"
