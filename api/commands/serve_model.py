"""A model with factors behind vLLM's server, where the plugin of the package `ropewalk` chooses for each request."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from api.commands import common
from api.console import note, print_json, print_line
from evaluation.models.source import locate, read_config
from evaluation.models.user_path import is_file
from ropewalk.client.errors import BadInput
from ropewalk.errors import NotServed
from ropewalk.factors.exports.registry import export
from ropewalk.factors.fitting import check_config
from ropewalk.serving.plan import ServingPlan, plan_of, written_block
from ropewalk.serving.version import server_command, vllm_problem

_OURS = {"--model": "CHECKPOINT", "--hf-overrides": "--factors"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    passed_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command("serve-model", context_settings=passed_on)(serve_model)


def serve_model(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A model: a directory, a Hub id, or pocket.")],
    factors: Annotated[
        str | None, typer.Option(metavar="FILE", help="A factor file, for a model whose config has no factors.")
    ] = None,
    max_model_len: Annotated[
        int | None,
        typer.Option(metavar="TOKENS", parser=common.length, help="The longest text; default: L'.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command and end.")] = False,
    as_json: common.AsJson = False,
) -> None:
    """Serve a model with vLLM: original RoPE up to L, the long factors past it. Further options go to vLLM."""
    _check_options(context.args)
    if not dry_run and (problem := vllm_problem()) is not None:
        raise NotServed(f"{problem}: serve-model starts the vLLM of its own environment, or prints it with --dry-run")
    path, _ = locate(checkpoint)
    overrides = None if factors is None else _overrides(read_config(path), factors)
    plan = _plan(read_config(path) if overrides is None else json.loads(overrides), path, max_model_len)
    command = [sys.executable, "-m", *server_command(), "--model", str(path)]
    command += ["--max-model-len", str(max_model_len or plan.target_length)]
    command += [] if overrides is None else ["--hf-overrides", overrides]
    command += context.args
    _tell(path, plan, command, as_json=as_json, dry_run=dry_run)
    if not dry_run:
        os.execv(sys.executable, command)


def _check_options(options: list[str]) -> None:
    for option in (one.split("=", 1)[0] for one in options):
        if option in _OURS:
            raise BadInput(f"{option} is what serve-model gives to vLLM itself: use {_OURS[option]}")


def _overrides(config: Mapping[str, object], factors: str) -> str:
    """The value of --hf-overrides, for a model with this config.

    Raises:
        FactorsDoNotFit, InvalidFactorFile: the factors are not for this model, or vLLM cannot hold them.
    """
    file = common.read_factor_file(factors)
    check_config(file, config)
    return export(file, "vllm").strip()


def _plan(config: Mapping[str, object], path: Path, max_model_len: int | None) -> ServingPlan:
    """Raises: BadInput for a config without factors; NotServed."""
    section = config.get("text_config")
    text: Mapping[str, object] = section if isinstance(section, Mapping) else config
    block = written_block(text.get("rope_parameters"))
    if block is None:
        known = is_file(path / "factors.json")
        where = f"--factors {path / 'factors.json'} and the model that they are for" if known else "--factors FILE"
        raise BadInput(f"the config of {path} must have factors for vLLM's plugin, but has none: give {where}")
    target = text.get("max_position_embeddings")
    return plan_of(block, target_length=target, engine_length=max_model_len or 0)


def _tell(path: Path, plan: ServingPlan, command: list[str], *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        print_json({"original_length": plan.original_length, "target_length": plan.target_length, "command": command})
        return
    note(
        f"{path.name}: texts of up to {plan.original_length} tokens with its own RoPE, longer ones, up to "
        f"{plan.target_length}, with the long factors"
    )
    print_line(shlex.join(command))
    if not dry_run:
        note("what follows is vLLM's; Ctrl-C ends it")
