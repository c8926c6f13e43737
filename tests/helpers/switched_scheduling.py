"""The plugin's schedulers with a model that takes a step's time and knows nothing: what they have it read.

Steps are handed out before the ones ahead of them are done, as on a GPU; on a CPU vLLM never does that.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

_BLOCK = 16


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A request's part of a step: `count` tokens from `start`; whether it begins there, and a token is told after them.

    One that begins has nothing in the KV cache but blocks that were found by their hashes.
    """

    name: str
    start: int
    count: int
    begins: bool
    long: bool
    tells: bool


def simulate(options: dict[str, Any], prompts: dict[str, int], *, new: int, blocks: int, ahead: bool) -> Any:
    """Every reading of prompts of these lengths, and the tokens that each request was told: each is its own index."""
    scheduler = _scheduler(options, blocks=blocks, ahead=ahead)
    for name, length in prompts.items():
        scheduler.add_request(_request(name, length, new, scheduler))
    readings: list[Reading] = []
    told: dict[str, list[int]] = {name: [] for name in prompts}
    under_way: deque[tuple[Any, list[Reading]]] = deque()
    while scheduler.has_unfinished_requests():
        step = scheduler.schedule()
        found = _readings(step, scheduler)
        readings += found
        under_way.append((step, found))
        if len(under_way) > (1 if ahead else 0):
            _finish(scheduler, *under_way.popleft(), told)
    return {"readings": [asdict(one) for one in readings], "told": told}


def _scheduler(options: dict[str, Any], *, blocks: int, ahead: bool) -> Any:
    import torch
    from vllm.engine.arg_utils import EngineArgs
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import init_none_hash
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.structured_output import StructuredOutputManager

    from ropewalk.serving.scheduling import AsyncSwitchingScheduler, SwitchingScheduler

    config = EngineArgs(**options | {"block_size": _BLOCK}).create_engine_config()
    config.scheduler_config.async_scheduling = ahead
    config.cache_config.num_gpu_blocks = blocks
    init_none_hash(sha256)
    spec = FullAttentionSpec(block_size=_BLOCK, num_kv_heads=1, head_size=1, dtype=torch.float32)
    cache = KVCacheConfig(num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)])
    return (AsyncSwitchingScheduler if ahead else SwitchingScheduler)(
        vllm_config=config,
        kv_cache_config=cache,
        structured_output_manager=StructuredOutputManager(config),
        block_size=_BLOCK,
    )


def _request(name: str, length: int, new: int, scheduler: Any) -> Any:
    from vllm import SamplingParams
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher
    from vllm.v1.request import Request

    return Request(
        request_id=name,
        prompt_token_ids=list(range(length)),  # all with one beginning
        sampling_params=SamplingParams(max_tokens=new, ignore_eos=True),
        pooling_params=None,
        block_hasher=get_request_block_hasher(_BLOCK, sha256),
    )


def _readings(step: Any, scheduler: Any) -> list[Reading]:
    starts = {one.req_id: one.num_computed_tokens for one in step.scheduled_new_reqs}
    again = step.scheduled_cached_reqs
    begin = {*starts, *again.resumed_req_ids}
    starts |= dict(zip(again.req_ids, again.num_computed_tokens, strict=True))
    return [
        Reading(
            name=name,
            start=starts[name],
            count=count,
            begins=name in begin,
            long=name in step.ropewalk_long,
            tells=not scheduler.requests[name].is_prefill_chunk,
        )
        for name, count in step.num_scheduled_tokens.items()
    ]


def _finish(scheduler: Any, step: Any, readings: list[Reading], told: dict[str, list[int]]) -> None:
    from vllm.v1.outputs import ModelRunnerOutput

    output = ModelRunnerOutput(
        req_ids=[one.name for one in readings],
        req_id_to_index={one.name: index for index, one in enumerate(readings)},
        sampled_token_ids=[[one.start + one.count] if one.tells else [] for one in readings],
    )
    for answers in scheduler.update_from_output(step, output).values():
        for answer in answers.outputs:
            told[answer.request_id] += answer.new_token_ids
