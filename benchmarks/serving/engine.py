"""One vLLM engine in a process of its own: `python -m benchmarks.serving.engine KIND MODEL OVERRIDES LENGTH`.

It takes jobs from standard input, one JSON object a line, and answers each with a line.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

Kind = Literal["plugin", "plain"]
Request = tuple[Sequence[int], int]  # a prompt, and how many tokens shall follow

_ANSWER = "answer: "
_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "OMP_NUM_THREADS": "1",
}


class Engine:
    """Asks one. `length`: its longest text, in tokens."""

    def __init__(self, kind: Kind, model: Path, overrides: str, length: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, kind, str(model), overrides, str(length)],
            env=os.environ | _ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def serve(self, load: Sequence[Request]) -> tuple[float, float]:
        """All requests at once: seconds until the last is done, and the median of the seconds to a first token."""
        self.begin(load)
        return self.end()

    def begin(self, load: Sequence[Request]) -> None:
        """As `serve`, without waiting."""
        self._send({"load": [[list(ids), new] for ids, new in load]})

    def end(self) -> tuple[float, float]:
        """What `begin` was asked for."""
        found = self._answer()
        return found["seconds"], found["first"]

    def score(self, texts: Sequence[Sequence[int]]) -> list[list[tuple[float, bool]]]:
        """Of each text's tokens from the second: the log-probability, and whether it is the best."""
        self._send({"texts": [list(ids) for ids in texts]})
        return [[(score, best) for score, best in text] for text in self._answer()["scores"]]

    def resident_mib(self) -> float:
        """Of its process."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _send(self, job: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(_ANSWER):
                return json.loads(line.removeprefix(_ANSWER))
        raise RuntimeError("the engine's process has ended")


def main() -> None:
    """The engine's side."""
    kind, model, overrides, length = sys.argv[1:]
    os.environ["ROPEWALK_VLLM"] = "on" if kind == "plugin" else "off"
    import vllm

    engine = vllm.LLM(
        model=model,
        hf_overrides=json.loads(overrides),
        max_model_len=int(length),
        dtype="float32",
        enforce_eager=True,
        enable_prefix_caching=False,  # a second run would read nothing
        max_num_seqs=8,
        max_num_batched_tokens=2048,
        disable_log_stats=False,
        seed=0,
    )
    for line in sys.stdin:
        job = json.loads(line)
        found = _serve(engine, job["load"]) if "load" in job else {"scores": _score(engine, job["texts"])}
        sys.stdout.write(f"{_ANSWER}{json.dumps(found)}\n")
        sys.stdout.flush()


def _serve(engine: Any, load: Sequence[Request]) -> dict[str, float]:
    import vllm

    parameters = [vllm.SamplingParams(temperature=0, max_tokens=new, ignore_eos=True) for _, new in load]
    began = time.perf_counter()
    found = engine.generate([{"prompt_token_ids": ids} for ids, _ in load], parameters, use_tqdm=False)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "first": statistics.median(one.metrics.first_token_latency for one in found)}


def _score(engine: Any, texts: Sequence[Sequence[int]]) -> list[list[tuple[float, bool]]]:
    import vllm

    parameters = vllm.SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
    found = engine.generate([{"prompt_token_ids": ids} for ids in texts], parameters, use_tqdm=False)
    return [
        [
            (of[token].logprob, of[token].rank == 1)
            for token, of in zip(one.prompt_token_ids[1:], one.prompt_logprobs[1:], strict=True)
        ]
        for one in found
    ]


if __name__ == "__main__":
    main()
