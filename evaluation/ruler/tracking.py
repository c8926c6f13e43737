"""RULER's variable tracking: a chain of assignments in noise."""

from __future__ import annotations

import string
from itertools import pairwise

import numpy as np

from evaluation.ruler.fitting import TokenCount, largest_fitting
from evaluation.ruler.niah import NOISE
from evaluation.ruler.task import Definition, Draft
from evaluation.ruler.values import draw_distinct

TEMPLATE = (
    "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}\n"
    "Question: Find all variables that are assigned the value {query} in the text above. Answer: According to the "
    "chain(s) of variable assignment in the text above, {count} variables are assigned the value {query}, they are: "
)
TOKENS_TO_GENERATE = 30
HOPS = 4
NAME_LETTERS, EXAMPLE_NAME_LETTERS = 5, 3
EXAMPLE_TOKENS = 500


def variable_tracking(tokens_of: TokenCount) -> Definition:
    """vt: one chain of 5 variables, X1 = number, X2 = X1, ... X5 = X4, in this order between lines of noise.

    Asked are the variables that have the number; names have five capitals, 30 tokens are generated. A solved example
    of its own noise, 500 tokens long and with names of three capitals, stands before it.

    Deviations: the example is drawn anew for each prompt, where RULER draws its names anew; it has at most half the
    tokens of the prompt, for lengths below RULER's 4096. `tokens_of` counts the tokens of a text.
    """

    def draft(rng: np.random.Generator, index: int, length: int) -> Draft:
        example = _chain(rng, EXAMPLE_NAME_LETTERS)
        budget = min(EXAMPLE_TOKENS, length // 2)
        solved = f" {' '.join(example.answers)}\n\n\n\n"
        lines = largest_fitting(lambda n: tokens_of(example.write(n) + solved), budget=budget, least=example.least)
        before = example.write(lines or example.least) + solved
        asked = _chain(rng, NAME_LETTERS)
        return Draft(answers=asked.answers, write=lambda n: before + asked.write(n), least=asked.least)

    return Definition(draft=draft, tokens_to_generate=TOKENS_TO_GENERATE)


def _chain(rng: np.random.Generator, letters: int) -> Draft:
    names = draw_distinct(lambda stream: "".join(stream.choice(list(string.ascii_uppercase), letters)), rng, HOPS + 1)
    number = str(rng.integers(10_000, 99_999))
    statements = [f"VAR {names[0]} = {number}"]
    statements += [f"VAR {after} = VAR {before} " for before, after in pairwise(names)]
    where = np.sort(rng.random(len(statements)))

    def write(lines: int) -> str:
        parts = [f"{NOISE}\n"] * lines
        for position, statement in reversed(list(zip((where * lines).astype(int).tolist(), statements, strict=True))):
            parts.insert(position, statement)
        context = " ".join(parts).replace(". \n", ".\n")
        return TEMPLATE.format(context=context, query=number, count=len(names))

    return Draft(answers=names, write=write, least=len(statements) + 1)
