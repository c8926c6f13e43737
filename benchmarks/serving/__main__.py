"""What the plugin of vLLM costs, and what it gives: one engine with it against plain ones, in turns.

    python -m benchmarks.serving [--target-length 1024] [--requests 48] [--documents 20] [--repeats 5]

The pocket model on the CPU, in float32, eager, one thread for each engine; in an environment that has vLLM and the
package `ropewalk`. The factors are those of YaRN. Medians of `--repeats`, ratios of pairs timed one after the other.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.command import run_command
from benchmarks.machine import Report, software
from benchmarks.scoring.ratios import HEADER, Ratio
from benchmarks.serving.engine import Engine, Request
from evaluation.documents.corpus import load_corpus
from evaluation.documents.factory import DocumentFactory, DocumentRequest
from evaluation.documents.needle import NeedleDocument
from evaluation.models.source import ModelSource, load_tokenizer, resolve_model
from ropewalk.factors.exports.registry import export
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from search_space.candidates.baselines import baseline

_NEW = 32  # tokens that follow each prompt
_PAIRS = ("requests/s", "seconds to the first token")


@dataclass(frozen=True, kw_only=True)
class Loads:
    """Requests of each kind, the same for every engine; `crossing` ones begin within L and end past it."""

    short: tuple[Request, ...]
    long: tuple[Request, ...]
    mixed: tuple[Request, ...]
    crossing: tuple[Request, ...]

    @classmethod
    def of(cls, documents: Sequence[NeedleDocument], original_length: int, requests: int) -> Loads:
        """`requests` short ones; of long ones, which take longer, a quarter as many."""
        texts = itertools.cycle([one.token_ids for one in documents])
        short = tuple((next(texts)[: original_length // 2 + i % 64], _NEW) for i in range(requests))
        long = tuple((next(texts)[: 3 * original_length - i % 64], _NEW) for i in range(requests // 4))
        crossing = tuple((next(texts)[: original_length - _NEW // 2], _NEW) for _ in range(requests // 4))
        half = requests // 8
        mixed = tuple(itertools.chain(*zip(short[: half * 4 : 4], short[1 : half * 4 : 4], long[:half], strict=True)))
        return cls(short=short, long=long, mixed=mixed, crossing=crossing)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target-length", type=int, default=1024)
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--report", type=Path)
    given = parser.parse_args(arguments)
    source = resolve_model("pocket")
    length, original = given.target_length, source.rope.original_max_position_embeddings
    report = Report(given.report, "Serving with the plugin of vLLM")
    report.add(f"{software()}; pocket model, L = {original}, L' = {length}; `python -m benchmarks.serving`.")
    factors, documents = _factors(source, length), _documents(source, (original - 32, length - 24), given.documents)
    overrides = export(factors, "vllm").strip()
    loads = Loads.of(documents[1], original, given.requests)
    with ExitStack() as open_engines:
        plugin = open_engines.enter_context(Engine("plugin", source.path, overrides, length))
        long = open_engines.enter_context(Engine("plain", source.path, overrides, length))
        short = open_engines.enter_context(Engine("plain", source.path, "{}", original))
        _costs(report, plugin, long, short, loads, original, given.repeats)
        _gains(report, plugin, long, short, documents)


def _factors(source: ModelSource, target_length: int) -> FactorFile:
    scaling = baseline("yarn", source.rope, target_length).scaling
    identity = ModelIdentity.of(source.rope, name=source.name)
    return FactorFile.of(source.rope, scaling, model=identity, target_length=target_length)


def _documents(source: ModelSource, lengths: Sequence[int], count: int) -> list[tuple[NeedleDocument, ...]]:
    factory = DocumentFactory(load_tokenizer(source), load_corpus(None))
    return [
        factory.build(DocumentRequest(target_length=length, count=count, seed=0, split="validation", needles=1))
        for length in lengths
    ]


def _costs(
    report: Report, plugin: Engine, long: Engine, short: Engine, loads: Loads, original: int, repeats: int
) -> None:
    report.add("", "## What it costs", "", HEADER)
    for name in ("short", "long", "mixed", "crossing"):
        load: tuple[Request, ...] = getattr(loads, name)
        pairs = _in_turns(plugin, long, load, repeats)
        rates = [(len(load) / a[0], len(load) / b[0]) for a, b in pairs]
        firsts = [(a[1], b[1]) for a, b in pairs]
        for what, values, unit in zip(_PAIRS, (rates, firsts), ("/s", "s"), strict=True):
            report.add(Ratio.of(f"plugin, {name}: {what}", "one long engine", values, unit=unit).line())
    both = [(_served(plugin, loads.mixed), _routed(short, long, loads.mixed, original)) for _ in range(repeats)]
    rates = [(len(loads.mixed) / a, len(loads.mixed) / b) for a, b in both]
    report.add(Ratio.of("plugin, mixed: requests/s", "two engines behind a router, at once", rates, unit="/s").line())
    memory = (plugin.resident_mib(), long.resident_mib() + short.resident_mib())
    report.add(Ratio.of("plugin: resident memory", "two engines", [memory], unit="MiB").line())


def _in_turns(
    one: Engine, other: Engine, load: Sequence[Request], repeats: int
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Each first in every second pair: what slows the machine for a while slows both."""
    one.serve(load)
    other.serve(load)
    pairs = []
    for turn in range(repeats):
        if turn % 2:
            second = other.serve(load)
            pairs.append((one.serve(load), second))
        else:
            first = one.serve(load)
            pairs.append((first, other.serve(load)))
    return pairs


def _served(engine: Engine, load: Sequence[Request]) -> float:
    return engine.serve(load)[0]


def _routed(short: Engine, long: Engine, load: Sequence[Request], original: int) -> float:
    """A router that sends each request to the engine that its last token belongs to; both work at once."""
    fits = [len(ids) + new <= original for ids, new in load]
    short.begin([one for one, fit in zip(load, fits, strict=True) if fit])
    long.begin([one for one, fit in zip(load, fits, strict=True) if not fit])
    return max(short.end()[0], long.end()[0])


def _gains(
    report: Report, plugin: Engine, long: Engine, short: Engine, documents: Sequence[Sequence[NeedleDocument]]
) -> None:
    report.add("", "## What it gives", "", "Nats per token; needles: of the answer, and the share answered exactly.")
    head = ("engines", "short text", "needles in short text", "exact", "needles in long text", "exact")
    report.table(head)
    arms = {"one long engine": (long, long), "two engines": (short, long), "one engine with the plugin": (plugin,) * 2}
    for name, (for_short, for_long) in arms.items():
        text, *of_short = _quality(for_short, documents[0])
        _, *of_long = _quality(for_long, documents[1])
        report.row(name, *(f"{value:.4f}" for value in (text, *of_short, *of_long)))


def _quality(engine: Engine, documents: Sequence[NeedleDocument]) -> tuple[float, float, float]:
    """Nats per token of the text, nats per answer token, share of documents whose every answer token is the best."""
    scored = engine.score([one.token_ids for one in documents])
    answers = [
        [text[position - 1] for span in one.answer_spans for position in range(*span)]
        for one, text in zip(documents, scored, strict=True)
    ]
    return (
        -float(np.mean([score for text in scored for score, _ in text])),
        -float(np.mean([score for answer in answers for score, _ in answer])),
        float(np.mean([all(best for _, best in answer) for answer in answers])),
    )


if __name__ == "__main__":
    run_command(main)
