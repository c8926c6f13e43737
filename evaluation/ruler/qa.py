"""RULER's two question answering tasks, for who has their data: nothing is downloaded."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.errors import CorpusNotFound, InvalidCorpus
from evaluation.models.user_path import exists, is_file
from evaluation.ruler.task import Definition, Draft

TEMPLATE = (
    "Answer the question based on the given documents. Only give me the answer and do not output any other words.\n\n"
    "The following are given documents.\n\n{context}\n\n"
    "Answer the question based on the given documents. Only give me the answer and do not output any other words.\n\n"
    "Question: {query} Answer:"
)
DOCUMENT = "Document {number}:\n{document}"
TOKENS_TO_GENERATE = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question. needed: the documents, by index, that its answer is in; near: others of the same article."""

    query: str
    answers: tuple[str, ...]
    needed: tuple[int, ...]
    near: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class QaData:
    """Questions and all the documents that they are about."""

    questions: tuple[Question, ...]
    documents: tuple[str, ...]


def question_answering(data: QaData) -> Definition:
    """qa_1 (SQuAD) and qa_2 (HotpotQA): the documents with the answer among others, in random order.

    SQuAD adds paragraphs of the same article before any others; prompt i asks question i, and the first again after
    the last. 32 tokens are generated; any one of the reference answers is right.

    Deviation: other documents are drawn once for a prompt; a longer prompt has those of a shorter one and more.
    """

    def draft(rng: np.random.Generator, index: int, length: int) -> Draft:
        question = data.questions[index % len(data.questions)]
        known = {*question.needed, *question.near}
        others = [place for place in range(len(data.documents)) if place not in known]
        order = [*question.needed, *rng.permutation(question.near).tolist(), *rng.permutation(others).tolist()]
        shuffle = int(rng.integers(2**32))

        def write(amount: int) -> str:
            chosen = np.random.default_rng(shuffle).permutation(order[:amount]).astype(int).tolist()
            parts = [DOCUMENT.format(number=n, document=data.documents[place]) for n, place in enumerate(chosen, 1)]
            return TEMPLATE.format(context="\n\n".join(parts), query=question.query)

        return Draft(answers=question.answers, write=write, least=len(question.needed), most=len(data.documents))

    return Definition(draft=draft, tokens_to_generate=TOKENS_TO_GENERATE, match="part")


@functools.lru_cache(maxsize=2)
def read_squad(path: Path) -> QaData:
    """SQuAD 2.0's JSON (`dev-v2.0.json`); questions without an answer are left out.

    Raises:
        CorpusNotFound, InvalidCorpus: no such file, or not SQuAD.
    """
    try:
        articles = [article["paragraphs"] for article in _read(path)["data"]]
        documents = tuple(sorted({part["context"] for parts in articles for part in parts}))
        places = {text: place for place, text in enumerate(documents)}
        questions = tuple(one for parts in articles for one in _squad_questions(parts, places))
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidCorpus(f"squad must be SQuAD 2.0's JSON file, but {str(path)!r} is not: {error!r}") from error
    return _checked(QaData(questions=questions, documents=documents), path)


def _squad_questions(parts: list[dict[str, Any]], places: dict[str, int]) -> Iterator[Question]:
    article = [places[part["context"]] for part in parts]
    for part in parts:
        own = places[part["context"]]
        near = tuple(dict.fromkeys(place for place in article if place != own))
        for question in part["qas"]:
            if question["answers"] and not question.get("is_impossible", False):
                answers = tuple(dict.fromkeys(answer["text"] for answer in question["answers"]))
                yield Question(query=question["question"], answers=answers, needed=(own,), near=near)


@functools.lru_cache(maxsize=2)
def read_hotpotqa(path: Path) -> QaData:
    """HotpotQA's distractor setting (`hotpot_dev_distractor_v1.json`).

    Raises:
        CorpusNotFound, InvalidCorpus: no such file, or not HotpotQA.
    """
    try:
        rows = [(row, [f"{title}\n{''.join(parts)}" for title, parts in row["context"]]) for row in _read(path)]
        documents = tuple(sorted({text for _, texts in rows for text in texts}))
        places = {text: place for place, text in enumerate(documents)}
        questions = tuple(
            Question(query=row["question"], answers=(row["answer"],), needed=tuple(places[text] for text in texts))
            for row, texts in rows
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidCorpus(
            f"hotpotqa must be HotpotQA's distractor JSON file, but {str(path)!r} is not: {error!r}"
        ) from error
    return _checked(QaData(questions=questions, documents=documents), path)


def _read(path: Path) -> Any:
    if not exists(path):
        raise CorpusNotFound(f"a question answering file must exist, but {str(path)!r} does not")
    if not is_file(path):
        raise InvalidCorpus(f"a question answering file must be a regular file, but {str(path)!r} is none")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidCorpus(f"a question answering file must be JSON, but {str(path)!r} is not: {error}") from error


def _checked(data: QaData, path: Path) -> QaData:
    if not data.questions:
        raise InvalidCorpus(f"a question answering file must hold an answered question, but {str(path)!r} has none")
    asked = (text for one in data.questions for text in (one.query, *one.answers))
    try:
        "".join((*data.documents, *asked)).encode()
    except (TypeError, UnicodeEncodeError) as error:  # no string, or half a character, which JSON can spell
        raise InvalidCorpus(
            f"a question answering file must hold Unicode text, but {str(path)!r} does not: {error}"
        ) from error
    return data
