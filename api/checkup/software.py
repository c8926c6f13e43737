"""What is installed, and what does not work without it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform

from api.checkup.finding import Check, Finding, absent, broken, good
from api.settings import Settings
from ropewalk.version import ROPEWALK_VERSION
from workers.backends import Backend
from workers.factory import choose_backend

EXTRAS = (
    ("peft", "lora", "adapters (`finetune --lora-rank`, `merge`)"),
    ("bitsandbytes", "8bit", "moments in eight bits (`finetune --optimizer adamw_8bit`)"),
    ("lm_eval", "eval", "tasks of lm-evaluation-harness (`evaluate --harness`)"),
    ("obstore", "s3", "files of jobs in a bucket (ROPEWALK_ARTIFACTS=s3://..., gs://...)"),
    ("opentelemetry.sdk", "otel", "spans of jobs and requests (OTEL_EXPORTER_OTLP_ENDPOINT)"),
)
"""(module, extra, what it is for)"""


def python(settings: Settings) -> Finding:
    """Which version runs, on what."""
    return good("ropewalk", f"{ROPEWALK_VERSION} on Python {platform.python_version()}, {platform.platform()}")


def required(package: str) -> Check:
    """A library without which nothing works."""

    def check(settings: Settings) -> Finding:
        if importlib.util.find_spec(package) is None:
            return broken(package, f"{package} must be installed, but is not: install ropewalk-service again")
        return good(package, f"{package} {importlib.metadata.version(package)} is installed")

    return check


def backend(row: Backend) -> Check:
    """A backend that takes what not every machine has."""

    def check(settings: Settings) -> Finding:
        if (problem := row.problem()) is not None:
            return absent(row.name, f"{problem}: backend=transformers does its work; for it, {row.needs}")
        return good(row.name, f"{row.name} {row.version()} is installed: {row.summary}")

    return check


def extra(module: str, name: str, what: str) -> Check:
    """A library that a part of the commands needs."""

    def check(settings: Settings) -> Finding:
        package = module.partition(".")[0]
        if importlib.util.find_spec(package) is None:
            return absent(package, f"{what} need {package}, which is not installed: pip install '.[{name}]'")
        return good(package, f"{package} is installed, for {what}")

    return check


def scorer(settings: Settings) -> Finding:
    """Which backend `auto` means."""
    choice = choose_backend("auto")
    where = "" if settings.ray_address is None else "; other machines of the cluster choose for themselves"
    return good("scorer", f"backend=auto takes {choice.backend} here: {choice.reason}{where}")


def hub(settings: Settings) -> Finding:
    """Whether models can come from the Hub; it is not asked."""
    from huggingface_hub import get_token
    from huggingface_hub.constants import ENDPOINT, is_offline_mode

    if is_offline_mode():
        return absent(
            "Hub", "HF_HUB_OFFLINE is set: models are directories, or in the cache already; unset it to fetch others"
        )
    if get_token() is None:
        return absent(
            "Hub", f"no token of {ENDPOINT}: for gated models and `push` set HF_TOKEN, or run `hf auth login`"
        )
    return good("Hub", f"a token of {ENDPOINT} is set, for gated models and `push`")
