"""The tasks by name, one row each. Importing this loads no task's code: clients read specs with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.errors import InvalidDocumentRequest
from ropewalk.registry import Registry

if TYPE_CHECKING:  # numpy
    from evaluation.ruler.fitting import TokenCount
    from evaluation.ruler.task import Definition


@dataclass(frozen=True, kw_only=True, slots=True)
class Materials:
    """What tasks are made from. words: of the corpus's validation split; tokens_of: text -> its tokens."""

    words: tuple[str, ...]
    tokens_of: TokenCount
    files: Mapping[str, Path]
    """Data files by the field of the spec that names them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RulerTask:
    """One task.

    make: imports and builds it. stream: keeps its random numbers apart from those of other tasks; None takes a number
    from its name. file: the spec's field that names its data, which is not shipped; None where it needs none.
    """

    name: str
    summary: str
    make: Callable[[Materials], Definition]
    stream: int | None = None
    file: str | None = None


def _niah(**parameters: object) -> Callable[[Materials], Definition]:
    def make(given: Materials) -> Definition:
        from evaluation.ruler.niah import Niah, niah

        return niah(Niah(**parameters), given.words)  # type: ignore[arg-type]  # a misspelt one fails every test

    return make


def _variable_tracking(given: Materials) -> Definition:
    from evaluation.ruler.tracking import variable_tracking

    return variable_tracking(given.tokens_of)


def _common_words(given: Materials) -> Definition:
    from evaluation.ruler.counting import common_words

    return common_words(given.tokens_of)


def _frequent_words(given: Materials) -> Definition:
    from evaluation.ruler.counting import frequent_words

    return frequent_words()


def _squad(given: Materials) -> Definition:
    from evaluation.ruler.qa import question_answering, read_squad

    return question_answering(read_squad(given.files["squad"]))


def _hotpotqa(given: Materials) -> Definition:
    from evaluation.ruler.qa import question_answering, read_hotpotqa

    return question_answering(read_hotpotqa(given.files["hotpotqa"]))


TASKS: Registry[RulerTask] = Registry(
    "a task other than all",
    RulerTask(
        name="niah_single_1",
        summary="one number in repeated noise",
        make=_niah(haystack="noise"),
        stream=0,
    ),
    RulerTask(
        name="niah_single_2",
        summary="one number in text",
        make=_niah(haystack="text"),
        stream=1,
    ),
    RulerTask(
        name="niah_single_3",
        summary="one UUID in text",
        make=_niah(haystack="text", value_kind="uuids"),
        stream=2,
    ),
    RulerTask(
        name="niah_multikey_1",
        summary="one of four numbers in text",
        make=_niah(haystack="text", keys=4),
        stream=3,
    ),
    RulerTask(
        name="niah_multikey_2",
        summary="one number among needles alone",
        make=_niah(haystack="needles"),
        stream=4,
    ),
    RulerTask(
        name="niah_multikey_3",
        summary="one UUID by another among needles alone",
        make=_niah(haystack="needles", key_kind="uuids", value_kind="uuids"),
        stream=5,
    ),
    RulerTask(
        name="niah_multivalue",
        summary="the four numbers of one key in text",
        make=_niah(haystack="text", values=4),
        stream=6,
    ),
    RulerTask(
        name="niah_multiquery",
        summary="the numbers of four keys in text",
        make=_niah(haystack="text", keys=4, queries=4),
        stream=7,
    ),
    RulerTask(
        name="vt",
        summary="variable tracking: a chain of five assignments in noise",
        make=_variable_tracking,
        stream=8,
    ),
    RulerTask(
        name="cwe",
        summary="common words: the ten most frequent of a numbered list",
        make=_common_words,
        stream=9,
    ),
    RulerTask(
        name="fwe",
        summary="frequent words: the three most frequent of a coded text",
        make=_frequent_words,
        stream=10,
    ),
    RulerTask(
        name="qa_1",
        summary="questions about paragraphs: SQuAD's dev-v2.0.json",
        make=_squad,
        stream=11,
        file="squad",
    ),
    RulerTask(
        name="qa_2",
        summary="questions over two documents: hotpot_dev_distractor_v1.json",
        make=_hotpotqa,
        stream=12,
        file="hotpotqa",
    ),
    refusal=InvalidDocumentRequest,
    kind=RulerTask,
    group="ropewalk.tasks",
)


def tasks_of(names: Iterable[str], files: Iterable[str] = ()) -> tuple[str, ...]:
    """Tasks by name, in the table's order, each once; "all" means those that need no data or whose file is given.

    Raises:
        InvalidDocumentRequest: a name is none of the table's.
    """
    given = set(names)
    for name in sorted(given - {"all"}):
        TASKS.find(name)
    here = {None, *files}
    return tuple(name for name, task in TASKS.items() if name in given or ("all" in given and task.file in here))
