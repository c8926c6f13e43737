"""workers/vllm_backend/child.py with a few lines in place of vLLM's engine.

    python -m tests.helpers.engine_stand_in KIND FD.

It starts at once, and does one of the things that a real engine does only when it is broken.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from types import ModuleType

from evaluation.models.loading import tell_share
from workers.vllm_backend import child as vllm_child
from workers.vllm_backend.messages import (
    AnswerScore,
    Done,
    EngineOpened,
    GroupScored,
    OpenEngine,
    PromptContinued,
    ScoreGroup,
    Work,
)

KIND = sys.argv.pop(1)


class Engine:
    """Scores every document with one nat and continues every prompt with ones, unless KIND says otherwise."""

    def __init__(self, request: OpenEngine) -> None:
        if KIND == "refuses":
            raise ValueError("heads must be\n  of another size")
        if KIND == "ends":
            sys.stderr.write("out of words\n")
            sys.stderr.flush()
            os._exit(3)
        if KIND == "loads":
            for share in (0.0, 0.25, 1.0):
                tell_share(share)
        if KIND == "has_ranks":
            subprocess.Popen(["sleep", "600"])
        self.opened = EngineOpened(
            dtype="float32",
            device="cpu",
            arithmetic="none",
            version=str(os.getpid()),
            places_positions=True,
            tokens_per_group=1024,
        )

    def do(self, work: Work) -> Done:
        if KIND == "breaks":
            raise RuntimeError("device-side assert")
        if KIND == "hangs_up":
            os.closerange(3, 1024)
        if KIND in ("hangs", "hangs_up", "has_ranks"):
            time.sleep(600)
        if isinstance(work, ScoreGroup):
            return GroupScored(scores=tuple(AnswerScore(nats=1.0, correct=len(one.answers)) for one in work.documents))
        return PromptContinued(token_ids=(1,) * work.max_new_tokens, nats=math.nan if KIND == "no_number" else 1.0)

    def close(self) -> None:
        pass


if __name__ == "__main__":
    module = ModuleType("workers.vllm_backend.engine")
    module.Engine = Engine  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    vllm_child.main()
