"""Documents scored by the programs that exports are for, each in a process of its own: what one does not like ends it.

python -m tests.helpers.consumers PROGRAM MODEL < documents.json    ->    nats of each document, JSON
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.documents.needle import NeedleDocument
from tests.helpers.paths import ROOT

TIMEOUT_SECONDS = 240
EVERY_TOKEN = 100_000  # more than the vocabulary has


def score_with(program: str, model: Path, documents: Sequence[NeedleDocument], *, context: int = 0) -> list[float]:
    """Nats over the answer tokens of each document, in float32, by "llama.cpp" or "mlx-lm".

    `context` in tokens is for llama.cpp.
    """
    given = [{"token_ids": one.token_ids, "answer_spans": one.answer_spans} for one in documents]
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.consumers", program, str(model), str(context)],
        cwd=ROOT,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    nats: list[float] = json.loads(done.stdout.splitlines()[-1])
    return nats


class _LlamaCpp:
    def __init__(self, model: str, context: int) -> None:
        import xllamacpp  # llama.cpp and Python bindings of it

        params = xllamacpp.CommonParams()
        params.model.path = model
        params.n_ctx = params.n_batch = params.n_ubatch = context
        params.n_parallel = 1
        params.cpuparams.n_threads = 1
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED  # rounds to float16
        params.fit_params = params.warmup = False
        self._server = xllamacpp.Server(params)

    def nats(self, ids: Sequence[int], positions: Sequence[int]) -> float:
        """The server tells probabilities of what comes next only: one request for each answer token."""
        return -sum(self._next(ids[:position])[ids[position]] for position in positions)

    def _next(self, prefix: Sequence[int]) -> dict[int, float]:
        answer = self._server.handle_completions(
            {"prompt": list(prefix), "n_predict": 1, "n_probs": EVERY_TOKEN, "samplers": [], "cache_prompt": True}
        )
        return {one["id"]: one["logprob"] for one in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}


class _Mlx:
    def __init__(self, model: str) -> None:
        import mlx.core as mx
        from mlx_lm.utils import load_model

        mx.disable_compile()  # compiling the model's functions takes longer than running it
        self._mx: Any = mx
        self._model: Any = load_model(Path(model))[0]

    def nats(self, ids: Sequence[int], positions: Sequence[int]) -> float:
        mx = self._mx
        logits = self._model(mx.array([ids]))[0].astype(mx.float32)
        log_probabilities = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        return -sum(float(log_probabilities[position - 1, ids[position]]) for position in positions)


def _scorer(program: str, model: str, context: int) -> _LlamaCpp | _Mlx:
    return _LlamaCpp(model, context) if program == "llama.cpp" else _Mlx(model)


def main(program: str, model: str, context: str) -> None:
    """Score what standard input holds."""
    scorer = _scorer(program, model, int(context))
    nats = [
        scorer.nats(
            document["token_ids"],
            [position for start, end in document["answer_spans"] for position in range(start, end)],
        )
        for document in json.load(sys.stdin)
    ]
    sys.stdout.write(json.dumps(nats) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
