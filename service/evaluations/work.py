"""What an evaluation asks of every contender by generation and reading. No Ray here: the API prepares it too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.documents.windows import TextWindow
from evaluation.models.tokenizer import Tokenizer
from evaluation.ruler.factory import RulerFactory
from service.evaluations.contenders import Contender, Setup


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedWork:
    """What is asked of every contender. Prompts are built on the way: long ones do not all fit the memory."""

    tokenizer: Tokenizer
    ruler: RulerFactory | None
    tasks: tuple[str, ...]
    ruler_lengths: tuple[int, ...]
    prompts: int
    """Per task and length."""
    seed: int
    windows: Mapping[int, tuple[TextWindow, ...]]

    def units(self, contenders: Sequence[Contender]) -> int:
        """Generations and readings in all."""
        ruler = len(self.tasks) * self.prompts * len(setups_at(contenders, self.ruler_lengths))
        return ruler + sum(len(w) * len(setups_at(contenders, (length,))) for length, w in self.windows.items())


def setups_at(contenders: Sequence[Contender], lengths: Sequence[int]) -> dict[Setup, Contender]:
    """What must be done, each once, with a contender that it is the setup of."""
    return {contender.at(length): contender for contender in contenders for length in lengths}
