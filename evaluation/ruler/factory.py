"""Building RULER's prompts: each is decided by (tokenizer, corpus or data file, task, length, seed, index) alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from evaluation.documents.corpus import Corpus
from evaluation.errors import CorpusTooShort, InvalidDocumentRequest
from evaluation.models.tokenizer import Tokenizer
from evaluation.ruler.fitting import largest_fitting
from evaluation.ruler.task import Definition, RulerPrompt, RulerRequest
from evaluation.ruler.tasks import TASKS, Materials, RulerTask

_STREAM = 0x521E  # keeps these streams apart from those of needle documents with the same seed


class RulerFactory:
    """Prompts for one tokenizer; `files` has the data of tasks that need some, by `RulerTask.file`.

    Raises:
        CorpusTooShort: the validation split of the corpus holds no word.
        CorpusNotFound, InvalidCorpus: a data file is missing, or is another one.
    """

    def __init__(self, tokenizer: Tokenizer, corpus: Corpus, *, files: Mapping[str, Path] | None = None) -> None:
        self._tokenizer = tokenizer
        self._bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        words = tuple(corpus.split_text("validation").split())
        if not words:
            raise CorpusTooShort(f"the validation split of {corpus.name!r} must hold some text, but is empty")
        self._given = Materials(words=words, tokens_of=self._tokens, files=files or {})
        self._definitions: dict[str, Definition] = {}
        for name, task in TASKS.items():
            if task.file in self._given.files:
                self._definition(name)  # so that another file is told, whatever is asked for

    def build(self, request: RulerRequest) -> tuple[RulerPrompt, ...]:
        """The first `count` prompts; a larger count begins with the same ones.

        Raises:
            InvalidDocumentRequest: the task has no data file here, or does not fit the length.
        """
        return tuple(self.prompt(request, index) for index in range(request.count))

    def prompt(self, request: RulerRequest, index: int) -> RulerPrompt:
        """Prompt `index` >= 0 of the sequence; does not depend on request.count. Raises as `build` does."""
        definition = self._definition(request.task)
        rng = np.random.default_rng([_STREAM, _stream(TASKS.find(request.task)), index, request.seed])
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

    def _definition(self, name: str) -> Definition:
        task = TASKS.find(name)
        if task.file is not None and task.file not in self._given.files:
            raise InvalidDocumentRequest(
                f"RULER's {name} needs its data, which is not shipped: {task.file} must be given, but is not"
            )
        if name not in self._definitions:
            self._definitions[name] = task.make(self._given)
        return self._definitions[name]

    def _tokens(self, text: str) -> int:
        return len(self._bos) + len(self._tokenizer.encode(text))


def _stream(task: RulerTask) -> int:
    return int.from_bytes(hashlib.sha256(task.name.encode()).digest()[:8]) if task.stream is None else task.stream
