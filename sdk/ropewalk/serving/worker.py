"""The worker: vLLM's for GPUs, which writes each step's offsets before its forward pass."""

from __future__ import annotations

from typing import Any

from vllm.v1.worker.gpu_worker import Worker

from ropewalk.serving.plan import ServingPlan
from ropewalk.serving.rotary import Offsets
from ropewalk.serving.scheduling import LONG_REQUESTS


class SwitchingGpuWorker(Worker):  # type: ignore[misc]
    """vLLM's, with windows."""

    def load_model(self, *args: Any, **named: Any) -> None:
        """See vLLM's. Nothing is compiled or captured yet when it returns."""
        super().load_model(*args, **named)
        plan = ServingPlan.of(self.vllm_config.additional_config)
        assert plan is not None, "the plugin configures this worker with a plan"
        runner = self.model_runner
        offsets = Offsets(runner.get_model(), plan, tokens=runner.max_num_tokens, device=runner.device)
        if self.vllm_config.use_v2_model_runner:
            _follow_v2(runner, offsets)
        else:
            _follow_v1(runner, offsets)


def _follow_v1(runner: Any, offsets: Offsets) -> None:
    original = runner._prepare_inputs

    def prepare_inputs(step: Any, num_scheduled_tokens: Any, *args: Any, **named: Any) -> Any:
        offsets.place(runner.input_batch.req_ids, num_scheduled_tokens, getattr(step, LONG_REQUESTS))
        return original(step, num_scheduled_tokens, *args, **named)

    runner._prepare_inputs = prepare_inputs


def _follow_v2(runner: Any, offsets: Offsets) -> None:
    original = runner.prepare_inputs

    def prepare_inputs(step: Any, *args: Any, **named: Any) -> Any:
        batch = original(step, *args, **named)
        offsets.place(batch.req_ids, batch.num_scheduled_tokens, getattr(step, LONG_REQUESTS))
        return batch

    runner.prepare_inputs = prepare_inputs
