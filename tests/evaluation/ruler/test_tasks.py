from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from evaluation.documents.corpus import Corpus
from evaluation.errors import CorpusNotFound, InvalidCorpus, InvalidDocumentRequest
from evaluation.models.tokenizer import HFTokenizer
from evaluation.ruler.counting import COMMON_WORDS, zeta_counts
from evaluation.ruler.factory import RulerFactory
from evaluation.ruler.fitting import largest_fitting
from evaluation.ruler.niah import NEEDLE, NOISE
from evaluation.ruler.task import Definition, Draft, RulerPrompt, RulerRequest
from evaluation.ruler.tasks import TASKS, Materials, RulerTask, tasks_of
from ropewalk.registry import Registry

LENGTH = 2048
OFFLINE_TASKS = tasks_of(["all"])
NEEDLE_PATTERN = re.compile(r"One of the special magic (\w+) for (\S+) is: (\S+)\.")
SQUAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": f"The capital of land {article} number {part} is town {article}{part}.",
                    "qas": [
                        {
                            "question": f"What is the capital of land {article} number {part}?",
                            "answers": [{"text": f"town {article}{part}"}, {"text": f"{article}{part}"}],
                            "is_impossible": False,
                        },
                        {"question": "Who knows?", "answers": [], "is_impossible": True},
                    ],
                }
                for part in range(3)
            ]
        }
        for article in range(40)
    ]
}


@pytest.fixture(scope="module")
def ruler(tokenizer: HFTokenizer, pydoc: Corpus) -> RulerFactory:
    return RulerFactory(tokenizer, pydoc)


def prompts(factory: RulerFactory, task: str, *, count: int = 3, length: int = LENGTH) -> tuple[RulerPrompt, ...]:
    return factory.build(RulerRequest(task=task, length=length, count=count, seed=7))


@pytest.mark.parametrize("task", OFFLINE_TASKS)
def test_prompts_fit_fill_and_repeat(ruler: RulerFactory, tokenizer: HFTokenizer, pydoc: Corpus, task: str) -> None:
    first, second, third = prompts(ruler, task)
    for prompt in (first, second, third):
        total = len(prompt.token_ids) + prompt.max_new_tokens
        assert LENGTH - 120 < total <= LENGTH, "at most one line of the largest haystack is left free"
        assert prompt.token_ids == tuple(tokenizer.encode(prompt.text))
        assert all(answer in prompt.text for answer in prompt.answers)
    assert len({first.text, second.text, third.text}) == 3
    again = RulerFactory(tokenizer, pydoc)
    assert prompts(again, task, count=1) == (first,)


@pytest.mark.parametrize("task", OFFLINE_TASKS)
def test_an_index_asks_the_same_at_every_length(ruler: RulerFactory, task: str) -> None:
    short, long = (prompts(ruler, task, count=1, length=length)[0] for length in (LENGTH, 3000))
    if task != "fwe":  # its vocabulary grows with the length
        assert short.answers == long.answers
    assert len(short.token_ids) < len(long.token_ids)


@pytest.mark.parametrize(
    ("task", "needles", "keys_asked", "values"),
    [
        ("niah_single_1", 1, 1, r"\d{7}"),
        ("niah_single_2", 1, 1, r"\d{7}"),
        ("niah_single_3", 1, 1, r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
        ("niah_multikey_1", 4, 1, r"\d{7}"),
        ("niah_multikey_2", None, 1, r"\d{7}"),
        ("niah_multikey_3", None, 1, r"[0-9a-f-]{36}"),
        ("niah_multivalue", 4, 1, r"\d{7}"),
        ("niah_multiquery", 4, 4, r"\d{7}"),
    ],
)
def test_needles(ruler: RulerFactory, task: str, needles: int | None, keys_asked: int, values: str) -> None:
    for prompt in prompts(ruler, task):
        stated = NEEDLE_PATTERN.findall(prompt.text)
        question = prompt.text[prompt.text.rindex("What ") :]
        asked = [(key, value) for _, key, value in stated if key in question]
        assert sorted(value for _, value in asked) == sorted(prompt.answers)
        assert len({key for key, _ in asked}) == keys_asked
        assert len(stated) == needles if needles is not None else len(stated) > 10
        assert all(re.fullmatch(values, answer) for answer in prompt.answers)


def test_a_single_needle_is_asked_for_in_the_singular(ruler: RulerFactory) -> None:
    (one,) = prompts(ruler, "niah_single_1", count=1)
    (several,) = prompts(ruler, "niah_multiquery", count=1)
    key = NEEDLE_PATTERN.findall(one.text)[0][1]
    assert one.text.startswith("A special magic number is hidden within the following text. Make sure to memorize it.")
    assert one.text.endswith(
        f"What is the special magic number for {key} mentioned in the provided text? "
        f"The special magic number for {key} mentioned in the provided text is"
    )
    assert several.text.endswith("mentioned in the provided text are")
    assert re.search(r"for \S+, \S+, \S+, and \S+ mentioned", several.text)


def test_noise_is_one_line_again_and_again(ruler: RulerFactory) -> None:
    (prompt,) = prompts(ruler, "niah_single_1", count=1)
    lines = prompt.text.split("\n")[1:-1]
    assert Counter(line == NOISE for line in lines)[False] == 1


def test_needles_stand_everywhere(ruler: RulerFactory) -> None:
    built = prompts(ruler, "niah_single_2", count=12)
    depths = [prompt.text.index(NEEDLE[:20]) / len(prompt.text) for prompt in built]
    assert min(depths) < 0.25
    assert max(depths) > 0.75


def test_a_short_text_is_repeated(tokenizer: HFTokenizer) -> None:
    text = "\n\n".join(f"Sentence {n} stands here for its length and {n * n}." for n in range(60))
    factory = RulerFactory(tokenizer, Corpus(name="short", text=text))
    (prompt,) = prompts(factory, "niah_single_2", count=1)
    assert len(prompt.token_ids) + prompt.max_new_tokens > LENGTH - 20


def test_variables_are_chained(ruler: RulerFactory) -> None:
    for prompt in prompts(ruler, "vt"):
        example, asked = prompt.text.split("\n\n\n\n")
        assert example.startswith(asked[:60]), "the example has the form of the question"
        chain = dict(re.findall(r"VAR (\w{5}) = (?:VAR )?(\w+)", asked))
        assert tuple(chain) == prompt.answers, "assigned in this order"
        assert [chain[name] for name in prompt.answers[1:]] == list(prompt.answers[:-1])
        assert f"5 variables are assigned the value {chain[prompt.answers[0]]}, they are: " in asked
        solved = example.rsplit("they are: ", 1)[1].split()
        assert solved == re.findall(r"VAR (\w{3}) =", example)


@pytest.mark.parametrize(("length", "times"), [(LENGTH, (6, 1)), (8192, (30, 3))])
def test_common_words_are_the_most_common(ruler: RulerFactory, length: int, times: tuple[int, int]) -> None:
    (prompt,) = prompts(ruler, "cwe", count=1, length=length)
    listed = prompt.text.rsplit("Below is a numbered list of words.", 1)[1]
    counts = Counter(re.findall(r"\d+\. (\S+)", listed))
    common, others = counts.most_common(COMMON_WORDS), counts.most_common()[COMMON_WORDS:]
    assert {word for word, _ in common} == set(prompt.answers)
    assert {count for _, count in common} == {times[0]}
    assert {count for _, count in others} == {times[1]}


def test_frequent_words_follow_zeta(ruler: RulerFactory) -> None:
    (prompt,) = prompts(ruler, "fwe", count=1)
    coded = prompt.text.split("coded words. ", 1)[1].split("\nQuestion", 1)[0].split()
    counts = Counter(coded)
    assert [word for word, _ in counts.most_common(4)] == ["...", *prompt.answers]
    total = next(n for n in range(74, 10_000) if zeta_counts(n, LENGTH // 50)[0] == counts["..."])
    assert abs(counts[prompt.answers[0]] - zeta_counts(total, 4)[1]) <= 1


def test_questions_from_a_data_file(tokenizer: HFTokenizer, pydoc: Corpus, tmp_path: Path) -> None:
    squad, hotpot = tmp_path / "squad.json", tmp_path / "hotpot.json"
    squad.write_text(json.dumps(SQUAD))
    rows = [
        {
            "question": f"Which sea is near {n}?",
            "answer": f"sea {n}",
            "context": [[f"Title {n}", [f"The sea {n} is near. ", "It is wide."]], [f"Other {n}", ["Nothing."]]],
        }
        for n in range(60)
    ]
    hotpot.write_text(json.dumps(rows))
    factory = RulerFactory(tokenizer, pydoc, files={"squad": squad, "hotpotqa": hotpot})
    assert tasks_of(["all"], ["squad", "hotpotqa"]) == tuple(TASKS)
    for task in ("qa_1", "qa_2"):
        for prompt in prompts(factory, task, length=1024):
            assert prompt.match == "part"
            assert prompt.answers[0] in prompt.text
            assert prompt.text.count("\nDocument ") >= 10
    assert prompts(factory, "qa_1", length=1024)[1].answers == ("town 01", "01")


def test_what_is_missing_is_said(ruler: RulerFactory, tokenizer: HFTokenizer, pydoc: Corpus, tmp_path: Path) -> None:
    with pytest.raises(InvalidDocumentRequest, match=r"qa_2 needs its data.*hotpotqa"):
        prompts(ruler, "qa_2")
    with pytest.raises(InvalidDocumentRequest, match=r"at least \d+ tokens .*cwe .*got length=256"):
        prompts(ruler, "cwe", length=256)
    with pytest.raises(InvalidDocumentRequest, match="at least 250 tokens for RULER's fwe"):
        prompts(ruler, "fwe", length=200)
    for name in ("none.json", "a" * 300):
        with pytest.raises(CorpusNotFound, match="must exist"):
            RulerFactory(tokenizer, pydoc, files={"squad": tmp_path / name})
    os.mkfifo(tmp_path / "fifo.json")
    with pytest.raises(InvalidCorpus, match="must be a regular file"):
        RulerFactory(tokenizer, pydoc, files={"hotpotqa": tmp_path / "fifo.json"})
    wrong = tmp_path / "wrong.json"
    half = json.dumps(SQUAD).replace("?", "\\ud83d")
    for text in (half, "[]", "{", "[" * 100_000, '{"data": [{"paragraphs": []}]}', "[[1]]"):
        wrong.write_text(text)
        with pytest.raises(InvalidCorpus):
            RulerFactory(tokenizer, pydoc, files={"squad": wrong})
        wrong = tmp_path / f"wrong{len(text)}.json"  # files are read once


def _echo(given: Materials) -> Definition:
    """One sentence of the corpus, to be repeated."""
    said = " ".join(given.words[:5])
    draft = Draft(answers=(said,), write=lambda amount: f"{said}. " * amount + "Once more:", least=1)
    return Definition(draft=lambda rng, index, length: draft, tokens_to_generate=16)


ECHO = RulerTask(name="echo", summary="a sentence again", make=_echo)


def test_an_installed_package_adds_a_task(
    monkeypatch: pytest.MonkeyPatch, tokenizer: HFTokenizer, pydoc: Corpus
) -> None:
    entry = importlib.metadata.EntryPoint("echo", f"{__name__}:ECHO", "ropewalk.tasks")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [entry] if group == entry.group else [])
    table = Registry(
        "task", *TASKS.own.values(), refusal=InvalidDocumentRequest, kind=RulerTask, group="ropewalk.tasks"
    )
    monkeypatch.setattr("evaluation.ruler.tasks.TASKS", table)
    monkeypatch.setattr("evaluation.ruler.factory.TASKS", table)
    assert tasks_of(["all"]) == (*OFFLINE_TASKS, "echo")
    (prompt,) = prompts(RulerFactory(tokenizer, pydoc), "echo", count=1)
    assert prompt.answers[0] in prompt.text
    assert LENGTH - 30 < len(prompt.token_ids) + prompt.max_new_tokens <= LENGTH


def test_random_numbers_of_tasks_are_apart() -> None:
    """The numbers are fixed: a prompt is the same in every version."""
    assert [task.stream for task in TASKS.own.values()] == list(range(len(TASKS.own)))


def test_specs_are_read_without_the_tasks_code() -> None:
    code = "import sys, evaluation.ruler.tasks; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tasks_by_name() -> None:
    assert tasks_of(["all"]) == OFFLINE_TASKS
    assert tasks_of(["qa_1", "vt", "vt"]) == ("vt", "qa_1")
    with pytest.raises(InvalidDocumentRequest, match="'niah'"):
        tasks_of(["niah"])


@pytest.mark.parametrize("per_unit", [1, 7, 300])
@pytest.mark.parametrize("budget", [99, 100, 5_000, 123_457])
def test_the_largest_amount_is_found_in_few_steps(per_unit: int, budget: int) -> None:
    asked: list[int] = []

    def cost(amount: int) -> int:
        asked.append(amount)
        return 20 + per_unit * amount + amount % 3

    found = largest_fitting(cost, budget=budget, least=1)
    if cost(1) > budget:
        assert found is None
        return
    assert found is not None
    assert cost(found) <= budget < cost(found + 1)
    assert len(asked) < 40
    assert largest_fitting(cost, budget=budget, least=1, most=3) == min(found, 3)
