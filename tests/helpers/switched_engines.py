"""vLLM engines with the plugin and without, each in a process forked from one that has vLLM loaded.

    python -m tests.helpers.switched_engines [v2_runner]

reads jobs from standard input, one JSON object a line, and answers each with a line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from tests.helpers.paths import POCKET, ROOT
from tests.helpers.switched_scheduling import Reading, simulate
from tests.helpers.vllm_children import KINDS

_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
_ANSWER = "answer: "
BLOCK = 32  # tokens
_PLAIN = {
    "model": str(POCKET),
    "dtype": "float32",
    "enforce_eager": True,
    "block_size": BLOCK,
    "max_num_seqs": 4,
    "disable_log_stats": False,
    "seed": 0,
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A text to go on with, greedily."""

    ids: list[int]
    new: int = 1
    extra: Mapping[str, object] | None = None
    scored: bool = False  # also the text itself; vLLM reads no cached blocks then


@dataclass(frozen=True, kw_only=True)
class Told:
    """What an engine made of a text: `scores` are of its tokens from the second, where asked for."""

    ids: list[int]
    logprobs: list[float]
    scores: list[float]
    greedy: list[bool]
    cached: int
    reason: str
    error: str | None = None


class Engines:
    """Asks the process that engines are forked from."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, options: Mapping[str, object], batches: Sequence[Sequence[Asked]], *, switch: bool) -> Any:
        """Each batch as one call of an engine's: what it told, and how often it preempted."""
        job = {"options": options, "switch": switch, "batches": [[asdict(one) for one in batch] for batch in batches]}
        found = self._do(job)
        return [[Told(**one) for one in batch] for batch in found["batches"]], found["preemptions"]

    def configure(self, options: Mapping[str, object], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The config that vLLM makes, or why none."""
        found: dict[str, Any] = self._do({"options": options, "environment": environment or {}})
        return found

    def simulate(self, **job: Any) -> tuple[list[Reading], dict[str, list[int]]]:
        """See :func:`tests.helpers.switched_scheduling.simulate`."""
        found = self._do(job)
        return [Reading(**one) for one in found["readings"]], found["told"]

    def _do(self, job: Mapping[str, object]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(_ANSWER):
                answer = json.loads(line.removeprefix(_ANSWER))
                assert answer is not None, "the engine's process failed; what it wrote is above"
                return answer
        raise AssertionError("the process that engines are forked from has ended")


@contextmanager
def switched_engines(*kinds: str) -> Iterator[Engines]:
    """Until the end of the block; killed after it. `kinds` are of tests/helpers/vllm_children.py."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, *kinds],
        cwd=ROOT,
        env=os.environ | _ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Engines(process)
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    """Fork for each job; what an engine's process leaves behind ends with it."""
    for kind in sys.argv[1:]:
        KINDS[kind]()
    import vllm.entrypoints.llm
    import vllm.v1.worker.cpu_worker  # noqa: F401

    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            with os.fdopen(writing, "w") as answer:
                json.dump(_work(json.loads(line)), answer)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as found:
            text = found.read()
        os.waitpid(child, 0)
        sys.stdout.write(f"{_ANSWER}{text or 'null'}\n")
        sys.stdout.flush()


def _work(job: dict[str, Any]) -> Any:
    options = _PLAIN | job["options"]
    if "prompts" in job:
        return simulate(**job | {"options": options})
    if "batches" not in job:
        return _configured(options, job["environment"])
    os.environ["ROPEWALK_VLLM"] = "on" if job["switch"] else "off"
    from vllm import LLM

    engine = LLM(**options)
    batches = [_told(engine, [Asked(**one) for one in batch]) for batch in job["batches"]]
    counts = [one.value for one in engine.get_metrics() if one.name == "vllm:num_preemptions"]
    return {"batches": [[asdict(one) for one in batch] for batch in batches], "preemptions": sum(counts)}


def _told(engine: Any, batch: Sequence[Asked]) -> list[Told]:
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError

    def parameters(one: Asked) -> Any:
        scores = 0 if one.scored else None
        extra = None if one.extra is None else dict(one.extra)
        return SamplingParams(
            temperature=0, max_tokens=one.new, logprobs=0, ignore_eos=True, prompt_logprobs=scores, extra_args=extra
        )

    try:
        found = engine.generate(
            [{"prompt_token_ids": one.ids} for one in batch], list(map(parameters, batch)), use_tqdm=False
        )
    except VLLMValidationError as error:
        return [Told(ids=[], logprobs=[], scores=[], greedy=[], cached=0, reason="", error=str(error))]
    return [_of(result) for result in found]


def _of(result: Any) -> Told:
    (output,) = result.outputs
    own = zip(result.prompt_token_ids[1:], (result.prompt_logprobs or [])[1:], strict=False)
    scores = [of[token] for token, of in own]
    return Told(
        ids=list(output.token_ids),
        logprobs=[of[token].logprob for token, of in zip(output.token_ids, output.logprobs, strict=True)],
        scores=[one.logprob for one in scores],
        greedy=[one.rank == 1 for one in scores],
        cached=result.num_cached_tokens or 0,
        reason=output.finish_reason,
    )


def _configured(options: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    from vllm.engine.arg_utils import EngineArgs

    os.environ.update(environment)
    try:
        config = EngineArgs(**options).create_engine_config()
    except ValueError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {
        "additional": config.additional_config,
        "scheduler": config.scheduler_config.scheduler_cls,
        "worker": config.parallel_config.worker_cls,
    }


if __name__ == "__main__":
    main()
