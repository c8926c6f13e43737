"""What this room refuses, and why.

FinetuneError
├── InvalidFinetuneSettings   a setting breaks its range
├── FactorsDoNotFit           the factor file belongs to another model, or asks for nothing to be learned
├── OutputNotEmpty            the checkpoint's directory already holds something
├── ModelNotTrainable         the model shows no rotary table that could be switched
├── MixedWindow               one forward pass would mix original RoPE and long factors (our own mistake)
├── TrainingDiverged          a loss is not finite
└── TrainingStopped           the caller asked to stop; no checkpoint was written
"""


class FinetuneError(Exception):
    """Anything this room refuses."""

    code = "FINETUNE_ERROR"


class InvalidFinetuneSettings(FinetuneError, ValueError):
    """A setting breaks its range."""

    code = "INVALID_FINETUNE_SETTINGS"


class FactorsDoNotFit(FinetuneError, ValueError):
    """The factor file was found for another model, or for another RoPE than the model's."""

    code = "FACTORS_DO_NOT_FIT"


class OutputNotEmpty(FinetuneError, ValueError):
    """The checkpoint's directory already holds something; nothing is overwritten."""

    code = "OUTPUT_NOT_EMPTY"


class ModelNotTrainable(FinetuneError, ValueError):
    """The model has no rotary module whose frequencies could be switched."""

    code = "MODEL_NOT_TRAINABLE"


class MixedWindow(FinetuneError, RuntimeError):
    """A forward pass does not agree with the rotary mode that is switched on."""

    code = "MIXED_WINDOW"


class TrainingDiverged(FinetuneError, RuntimeError):
    """A loss is not finite. Nothing was written."""

    code = "TRAINING_DIVERGED"


class TrainingStopped(FinetuneError, RuntimeError):
    """The caller asked to stop before the last step. Nothing was written."""

    code = "TRAINING_STOPPED"
