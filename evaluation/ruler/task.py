"""What a RULER prompt is: a long text, a question about it, and the strings that its answer must hold.

RULER (Hsieh et al. 2024, arXiv 2404.06654; NVIDIA/RULER) asks thirteen tasks at every length. Here they have RULER's
templates, parameters and metric. What deviates is the same for all of them:

- A prompt takes the largest amount of haystack that fits, found for each prompt. RULER finds one amount in steps (10 to
  500 units) for all prompts of a length, so its prompts are a little shorter.
- Prompt and answer together fit the length for every task; RULER's frequent words leave the answer out of the sum.
- Prompts of one index ask the same at every length: lengths are compared on like questions.
- No chat template: the prompt ends with the beginning of the answer, as RULER prompts base models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evaluation.errors import InvalidDocumentRequest

if TYPE_CHECKING:  # numpy, which clients that only read specs need not load
    import numpy as np

Match = Literal["all", "part"]
"""Which of the answers a generation must hold: the share of all of them counts, or any one is enough."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RulerRequest:
    """Which prompts: `count` of `task`, prompt and answer of at most `length` tokens together, decided by `seed`."""

    task: str
    length: int
    count: int
    seed: int

    def __post_init__(self) -> None:
        for name, value, least in (("length", self.length, 1), ("count", self.count, 1), ("seed", self.seed, 0)):
            if value < least:
                raise InvalidDocumentRequest(f"{name} must be at least {least}, but got {name}={value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RulerPrompt:
    """One prompt. token_ids: the tokens of `text`, BOS before them where the tokenizer writes one."""

    id: str
    task: str
    length: int
    token_ids: tuple[int, ...]
    text: str
    answers: tuple[str, ...]
    max_new_tokens: int
    match: Match


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A prompt of which only the amount of haystack is open.

    write: amount in [least, most] -> the whole text; a pure function whose text grows with the amount.
    least: the smallest amount that leaves a question with one right answer. most: None without a bound.
    """

    answers: tuple[str, ...]
    write: Callable[[int], str]
    least: int
    most: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Definition:
    """One task. draft: (random stream of the prompt, its index, length in tokens) -> what is asked."""

    draft: Callable[[np.random.Generator, int, int], Draft]
    tokens_to_generate: int
    match: Match = "all"
