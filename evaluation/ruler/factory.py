"""Building RULER's prompts: each is decided by (tokenizer, corpus or data file, task, length, seed, index) alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evaluation.documents.corpus import Corpus
from evaluation.errors import CorpusTooShort, InvalidDocumentRequest
from evaluation.models.tokenizer import Tokenizer
from evaluation.ruler.counting import common_words, frequent_words
from evaluation.ruler.fitting import largest_fitting
from evaluation.ruler.niah import TASKS, niah
from evaluation.ruler.qa import question_answering, read_hotpotqa, read_squad
from evaluation.ruler.task import RULER_TASKS, Definition, RulerPrompt, RulerRequest, RulerTask
from evaluation.ruler.tracking import variable_tracking

_STREAM = 0x521E  # keeps these streams apart from those of needle documents with the same seed
_DATA_FILES = {"qa_1": "squad (SQuAD's dev-v2.0.json)", "qa_2": "hotpotqa (hotpot_dev_distractor_v1.json)"}


class RulerFactory:
    """Prompts for one tokenizer; `squad` and `hotpotqa` are the data files of qa_1 and qa_2, which are not shipped.

    Raises:
        CorpusTooShort: the validation split of the corpus holds no word.
        CorpusNotFound, InvalidCorpus: a data file is missing, or is another one.
    """

    def __init__(
        self, tokenizer: Tokenizer, corpus: Corpus, *, squad: Path | None = None, hotpotqa: Path | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        words = tuple(corpus.split_text("validation").split())
        if not words:
            raise CorpusTooShort(f"the validation split of {corpus.name!r} must hold some text, but is empty")
        self._definitions: dict[RulerTask, Definition] = {name: niah(task, words) for name, task in TASKS.items()}
        self._definitions |= {
            "vt": variable_tracking(self._tokens),
            "cwe": common_words(self._tokens),
            "fwe": frequent_words(),
        }
        if squad is not None:
            self._definitions["qa_1"] = question_answering(read_squad(squad))
        if hotpotqa is not None:
            self._definitions["qa_2"] = question_answering(read_hotpotqa(hotpotqa))

    @property
    def tasks(self) -> tuple[RulerTask, ...]:
        """What can be built here, in RULER's order: eleven tasks, and those with a data file."""
        return tuple(task for task in RULER_TASKS if task in self._definitions)

    def build(self, request: RulerRequest) -> tuple[RulerPrompt, ...]:
        """The first `count` prompts; a larger count begins with the same ones.

        Raises:
            InvalidDocumentRequest: the task has no data file here, or does not fit the length.
        """
        return tuple(self.prompt(request, index) for index in range(request.count))

    def prompt(self, request: RulerRequest, index: int) -> RulerPrompt:
        """Prompt `index` >= 0 of the sequence; does not depend on request.count. Raises as `build` does."""
        definition = self._definition(request.task)
        rng = np.random.default_rng([_STREAM, RULER_TASKS.index(request.task), index, request.seed])
        draft = definition.draft(rng, index, request.length)
        budget = request.length - definition.tokens_to_generate
        amount = largest_fitting(
            lambda n: self._tokens(draft.write(n)), budget=budget, least=draft.least, most=draft.most
        )
        if amount is None:
            needed = self._tokens(draft.write(draft.least)) + definition.tokens_to_generate
            raise InvalidDocumentRequest(
                f"length must be at least {needed} tokens for prompt {index} of RULER's {request.task} "
                f"({definition.tokens_to_generate} of them for the answer), but got length={request.length}"
            )
        text = draft.write(amount)
        return RulerPrompt(
            id=f"ruler-{request.task}-{request.seed}-{request.length}-{index:05d}",
            task=request.task,
            length=request.length,
            token_ids=(*self._bos, *self._tokenizer.encode(text)),
            text=text,
            answers=draft.answers,
            max_new_tokens=definition.tokens_to_generate,
            match=definition.match,
        )

    def _definition(self, task: RulerTask) -> Definition:
        if task not in self._definitions:
            raise InvalidDocumentRequest(
                f"RULER's {task} needs its data, which is not shipped: {_DATA_FILES[task]} must be given, but is not"
            )
        return self._definitions[task]

    def _tokens(self, text: str) -> int:
        return len(self._bos) + len(self._tokenizer.encode(text))
