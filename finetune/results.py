"""What a fine-tuning tells of itself, as values that need no torch."""

from dataclasses import dataclass
from pathlib import Path

from finetune.config import Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingProgress:
    """The state after one optimiser step. A kind's loss is None when the step had no rows of it."""

    step: int
    """Steps done, 1 to `total`."""
    total: int
    began_at: int
    """Steps that were done when this process began: 0, or those of the state that it went on from."""
    loss_long: float | None
    loss_middle: float | None
    loss_short: float | None
    loss_skipped: float | None = None
    learning_rate: float
    seconds: float
    """Spent on the steps so far, those before an interruption included."""

    def loss(self, kind: Kind) -> float | None:
        """Of one kind of row."""
        losses: dict[Kind, float | None] = {
            "long": self.loss_long,
            "middle": self.loss_middle,
            "short": self.loss_short,
            "skipped": self.loss_skipped,
        }
        return losses[kind]


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
    initial_loss_long: float | None
    final_loss_long: float | None
    initial_loss_middle: float | None
    final_loss_middle: float | None
    initial_loss_short: float | None
    final_loss_short: float | None
    initial_loss_skipped: float | None = None
    final_loss_skipped: float | None = None
    seconds: float
    """Spent on the steps, not on preparing and writing."""
