"""The scheduler: it knows each request's window, and has a text that grows past L read anew.

A request's cache salt says its window, so that the hashes of its KV blocks do; nothing else keeps it. What a worker
must know goes with each step.
"""

from __future__ import annotations

import time
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import RequestStatus

from ropewalk.serving.plan import ServingPlan
from ropewalk.serving.requests import switch_of
from ropewalk.serving.switch import Window, resalted, salted, salted_window, window_of

LONG_REQUESTS = "ropewalk_long"
"""Of a step that the scheduler hands out: the ids of its requests that are in the long window."""


class SwitchingScheduler(Scheduler):  # type: ignore[misc]
    """vLLM's, with windows."""

    running: list[Any]

    def __init__(self, vllm_config: Any, *args: Any, **named: Any) -> None:
        super().__init__(vllm_config, *args, **named)
        plan = ServingPlan.of(vllm_config.additional_config)
        assert plan is not None, "the plugin configures this scheduler with a plan"
        self._original_length = plan.original_length

    def add_request(self, request: Any) -> None:
        """See vLLM's. A request that came around the plugin's checks gets its window here."""
        if salted_window(request.cache_salt) is None:
            window = window_of(switch_of(request.sampling_params), request.num_tokens, self._original_length)
            _rehash(request, salted(window, request.cache_salt))
        super().add_request(request)

    def schedule(self, *args: Any, **named: Any) -> Any:
        """See vLLM's. Texts that are about to be longer than L are preempted first, and come back as long ones.

        One whose last token is still being computed waits for it, as any preempted request does.
        """
        if self._pause_state != PauseState.PAUSED_ALL:
            self._preempt_crossing()
        step = super().schedule(*args, **named)
        long = {name for name in step.num_scheduled_tokens if _window(self.requests[name]) == "long"}
        setattr(step, LONG_REQUESTS, frozenset(long))
        return step

    def _preempt_crossing(self) -> None:
        crossing = [one for one in self.running if self._crosses(one, one.num_tokens + one.num_output_placeholders)]
        if not crossing:
            return
        now = time.monotonic()
        gone = set(map(id, crossing))
        self.running = [one for one in self.running if id(one) not in gone]
        for request in reversed(crossing):  # each goes to the front of the queue
            _rehash(request, resalted("long", request.cache_salt))
            self._preempt_request(request, now)
            # It may come back in this very step, and the worker must then take it for one that was away.
            self.prev_step_scheduled_req_ids.discard(request.request_id)

    def _update_request_with_output(self, request: Any, *args: Any, **named: Any) -> Any:
        """See vLLM's. A request that was preempted within L may get a token, still under way, that leads past it."""
        result = super()._update_request_with_output(request, *args, **named)
        if request.status == RequestStatus.PREEMPTED and self._crosses(request, request.num_tokens):
            _rehash(request, resalted("long", request.cache_salt))
        return result

    def _crosses(self, request: Any, tokens: int) -> bool:
        return (
            tokens > self._original_length
            and _window(request) == "short"
            and window_of(switch_of(request.sampling_params), tokens, self._original_length) == "long"
        )


class AsyncSwitchingScheduler(SwitchingScheduler, AsyncScheduler):  # type: ignore[misc]
    """vLLM's that plans a step while the one before it runs, with windows."""


def _window(request: Any) -> Window:
    window = salted_window(request.cache_salt)
    assert window is not None, "every queued request has a window"
    return window


def _rehash(request: Any, salt: str) -> None:
    """The request's blocks have other hashes from now on."""
    request.cache_salt = salt
    request.block_hashes.clear()
    request.update_block_hashes()
