"""What every request of an engine with a plan goes through before it is queued."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.utils import length_from_prompt_token_ids_or_embeds
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.input_processor import InputProcessor

from ropewalk.errors import InvalidSwitch
from ropewalk.serving.plan import ServingPlan
from ropewalk.serving.switch import Switch, check_length, most_new_tokens, read_switch, salted, window_of
from ropewalk.serving.wrapping import wrap

_BODIES = (
    ("vllm.entrypoints.openai.completion.protocol", "CompletionRequest"),
    ("vllm.entrypoints.openai.chat_completion.protocol", "ChatCompletionRequest"),
    ("vllm.entrypoints.openai.responses.protocol", "ResponsesRequest"),
)
_SERVER = "vllm.entrypoints.launchers.api_server.entry"
_XARGS = "vllm_xargs"


def watch_requests() -> None:
    """Have them checked and salted from now on."""
    wrap(InputProcessor, "process_inputs", _salting)
    wrap(AsyncLLM, "generate", _checking)
    if _SERVER in sys.modules:
        for module, name in _BODIES:
            _admit_objects(getattr(importlib.import_module(module), name))


def _admit_objects(body: Any) -> None:
    """Let a request's ``vllm_xargs`` hold objects, as `extra_args` of Python's do; vLLM has made no route of it yet."""
    field = body.model_fields[_XARGS]
    field.annotation = dict[str, str | int | float | list[str | int | float] | dict[str, str]] | None
    body.model_rebuild(force=True)


def switch_of(params: Any) -> Switch:
    """What a request's parameters ask for; parameters of pooling models, which have no such field, nothing.

    Raises:
        InvalidSwitch: see :func:`ropewalk.serving.switch.read_switch`.
    """
    return read_switch(getattr(params, "extra_args", None))


def _salting(original: Callable[..., Any]) -> Callable[..., Any]:
    def process_inputs(self: Any, *args: Any, **named: Any) -> Any:
        request = original(self, *args, **named)
        plan = ServingPlan.of(self.vllm_config.additional_config)
        if plan is not None:
            _prepare(request, plan)
        return request

    return process_inputs


def _checking(original: Callable[..., Any]) -> Callable[..., Any]:
    """vLLM's server would tell a stream of a bad request after it has said that all is well: this is before."""

    def generate(self: Any, prompt: Any, sampling_params: Any, *args: Any, **named: Any) -> AsyncIterator[Any]:
        plan = ServingPlan.of(self.vllm_config.additional_config)
        if plan is not None:
            tokens = prompt.get("prompt_token_ids") if isinstance(prompt, Mapping) else None
            _checked(sampling_params, 0 if tokens is None else len(tokens), plan)
        stream: AsyncIterator[Any] = original(self, prompt, sampling_params, *args, **named)
        return stream

    return generate


def _prepare(request: Any, plan: ServingPlan) -> None:
    if request.resumable:
        raise VLLMValidationError("a model with a switch reads a prompt at once, but got one that streams in")
    tokens = length_from_prompt_token_ids_or_embeds(request.prompt_token_ids, request.prompt_embeds)
    params = request.sampling_params
    switch = _checked(params, tokens, plan)
    request.cache_salt = salted(window_of(switch, tokens, plan.original_length), request.cache_salt)
    most = most_new_tokens(switch, tokens, plan.original_length)
    if most is not None and params is not None:
        params.max_tokens = min(params.max_tokens, most)
        params.min_tokens = min(params.min_tokens, most)


def _checked(params: Any, tokens: int, plan: ServingPlan) -> Switch:
    try:
        switch = switch_of(params)
        check_length(switch, tokens, plan.original_length)
    except InvalidSwitch as error:
        raise VLLMValidationError(str(error)) from error
    return switch
