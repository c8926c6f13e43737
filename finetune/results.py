"""What a fine-tuning tells of itself, as values that need no torch."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingProgress:
    """The state after one optimiser step. A kind's loss is None when no rows of it are trained on."""

    step: int
    """Steps done, 1 to `total`."""
    total: int
    began_at: int
    """Steps that were done when this process began: 0, or those of the state that it went on from."""
    loss_long: float
    loss_middle: float | None
    loss_short: float | None
    learning_rate: float
    seconds: float
    """Spent on the steps so far, those before an interruption included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneResult:
    """What the job did.

    Losses are weighted means in nats per token, averaged over the first and the last tenth of the steps, because those
    of single steps are noisy; those of kinds that were not trained on are None.
    """

    checkpoint: Path
    """The whole model, or the adapter when `lora_rank` is set."""
    steps: int
    tokens: int
    """Tokens trained on, padding included."""
    initial_loss_long: float
    final_loss_long: float
    initial_loss_middle: float | None
    final_loss_middle: float | None
    initial_loss_short: float | None
    final_loss_short: float | None
    seconds: float
    """Spent on the steps, not on preparing and writing."""
