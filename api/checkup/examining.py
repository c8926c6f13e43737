"""All checks, in the order in which they are told."""

from __future__ import annotations

from api.checkup import machine, serving, software
from api.checkup.finding import Check, Finding
from api.settings import Settings
from workers.backends import BACKENDS


def examine(settings: Settings) -> tuple[Finding, ...]:
    """Every finding; nothing is left running and nothing is upgraded."""
    checks: tuple[Check, ...] = (
        software.python,
        machine.cores,
        machine.memory,
        machine.shared_memory,
        machine.gpus,
        serving.disk,
        *(software.required(name) for name in ("torch", "transformers", "ray")),
        *(software.backend(row) for row in BACKENDS.values() if row.is_optional),
        *(software.extra(*row) for row in software.EXTRAS),
        software.scorer,
        software.hub,
        serving.home,
        serving.artifacts,
        serving.database,
        serving.ray_cluster,
        serving.port,
    )
    return tuple(check(settings) for check in checks)
