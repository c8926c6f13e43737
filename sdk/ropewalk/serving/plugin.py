"""The plugin: ``vllm.general_plugins`` calls :func:`register` in every process of vLLM.

It looks at each engine's config as vLLM makes it. One that Ropewalk wrote gets a plan, a scheduler and a worker, and
its requests go through :mod:`ropewalk.serving.requests`; any other goes on as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ropewalk.errors import NotServed
from ropewalk.serving.plan import PLAN_KEY, ServingPlan, check_heads, check_overrides, plan_of, written_block
from ropewalk.serving.version import vllm_problem
from ropewalk.serving.wrapping import wrap

OFF_SWITCH = "ROPEWALK_VLLM"
_SCHEDULING = "ropewalk.serving.scheduling."
_WORKERS = {
    "vllm.v1.worker.cpu_worker.CPUWorker": "ropewalk.serving.cpu_worker.SwitchingCpuWorker",
    "vllm.v1.worker.gpu_worker.Worker": "ropewalk.serving.worker.SwitchingGpuWorker",
}


def register() -> None:
    """Have vLLM's engine configs and requests looked at from now on; more than once is as good as once."""
    from vllm.engine.arg_utils import EngineArgs

    wrap(EngineArgs, "create_engine_config", _configured)


def _configured(original: Callable[..., Any]) -> Callable[..., Any]:
    def create_engine_config(self: Any, *args: Any, **named: Any) -> Any:
        config = original(self, *args, **named)
        block = written_block(getattr(config.model_config.hf_text_config, "rope_parameters", None))
        if block is not None and _is_on():
            _apply(config, block)
        return config

    return create_engine_config


def _is_on() -> bool:
    value = os.environ.get(OFF_SWITCH, "on")
    if value.lower() not in ("on", "off"):
        raise NotServed(f"{OFF_SWITCH} must be on or off, but is {value!r}")
    return value.lower() == "on"


def _apply(config: Any, block: Mapping[str, Any]) -> None:
    """Everything is checked before the first thing is changed.

    Raises:
        NotServed: the model, vLLM or an option of its is not one that a switch works with.
    """
    if (problem := vllm_problem()) is not None:
        raise NotServed(f"{problem}: ropewalk's plugin does not know it ({OFF_SWITCH}=off serves without)")
    model = config.model_config
    plan = plan_of(
        block,
        target_length=getattr(model.hf_text_config, "max_position_embeddings", None),
        engine_length=model.max_model_len,
    )
    _check_model(model, block, plan)
    worker, scheduler = _classes(config)
    _check_options(config)
    from ropewalk.serving.requests import watch_requests

    watch_requests()
    config.parallel_config.worker_cls = worker
    config.scheduler_config.scheduler_cls = scheduler
    config.additional_config = {**config.additional_config, PLAN_KEY: plan.as_config()}
    _tell(plan)


def _check_model(model: Any, block: Mapping[str, Any], plan: ServingPlan) -> None:
    alike = block is model.hf_text_config.rope_parameters  # else heads of some types of layers may be wider
    if alike and not model.use_mla:  # of which vLLM turns a part of its own
        check_heads(block, head_dim=int(model.get_head_size()))
    overrides = model.hf_overrides
    if isinstance(overrides, Mapping) and _holds_factors(overrides):
        from vllm.transformers_utils.repo_utils import get_hf_file_to_dict

        own = get_hf_file_to_dict("config.json", model.hf_config_path or model.model, model.revision)
        check_overrides(block, target_length=plan.target_length, config=own or {})


def _holds_factors(overrides: Mapping[str, Any]) -> bool:
    """In them or in a nested section."""
    sections = [overrides, *(value for value in overrides.values() if isinstance(value, Mapping))]
    return any(written_block(section.get("rope_parameters")) is not None for section in sections)


def _classes(config: Any) -> tuple[str, str]:
    """The worker and the scheduler that stand in for vLLM's own."""
    worker = config.parallel_config.worker_cls
    if worker not in _WORKERS:
        raise NotServed(f"the worker must be one of {', '.join(sorted(_WORKERS))}, but is {worker}")
    scheduler = config.scheduler_config.scheduler_cls
    if scheduler is not None:
        raise NotServed(f"the scheduler must be vLLM's own, but is {scheduler}")
    kind = "AsyncSwitchingScheduler" if config.scheduler_config.async_scheduling else "SwitchingScheduler"
    return _WORKERS[worker], _SCHEDULING + kind


def _check_options(config: Any) -> None:
    parallel = config.parallel_config
    asked = {
        "speculative decoding (--speculative-config)": config.speculative_config is not None,
        "KV transfer (--kv-transfer-config)": config.kv_transfer_config is not None,
        "micro-batches (--enable-dbo)": parallel.use_ubatching,
        "context-parallel prefill": getattr(parallel, "prefill_context_parallel_size", 1) > 1,
    }
    if found := [option for option, wanted in asked.items() if wanted]:
        raise NotServed(
            f"a model with a switch is served without {', '.join(found)}: leave it out, or serve without the switch "
            f"({OFF_SWITCH}=off)"
        )


def _tell(plan: ServingPlan) -> None:
    from vllm.logger import init_logger

    init_logger("vllm.ropewalk").info(
        "ropewalk: requests within %d tokens are served with the model's own RoPE, longer ones with the long factors, "
        "up to %d tokens (what vLLM says of LongRoPE at every length does not apply)",
        plan.original_length,
        plan.target_length,
    )
