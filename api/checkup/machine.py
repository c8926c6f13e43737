"""What the machine has: cores, memory, shared memory, GPUs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from api.checkup.finding import Finding, absent, good
from api.settings import Settings

GIB = 1024**3
LEAST_MEMORY = 4 * GIB
LEAST_SHARED = 256 * 1024**2
"""Ray keeps 200 MiB of objects there, PostgreSQL its buffers."""
_GROUPS = Path("/sys/fs/cgroup")
_SHARED = Path("/dev/shm")


def cores(settings: Settings) -> Finding:
    """That this process may use; a container may have fewer than the machine."""
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cpu_limit(_GROUPS)
    usable = seen if limit is None else min(seen, limit)
    held = "" if usable == seen else f" of {seen}, as many as the container may use"
    count = f"{usable:.3g} CPU core{'' if usable == 1 else 's'}{held}"
    if usable < 2:
        return absent("CPU", f"{count}: jobs run, but a server answers slowly meanwhile; give it two")
    return good("CPU", f"{count}: without a GPU up to {int(usable)} workers score side by side (`workers` of a spec)")


def cpu_limit(groups: Path) -> float | None:
    """Of this container; None without one."""
    try:
        quota, period = (groups / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def memory(settings: Settings) -> Finding:
    """Of the machine, or of the container where it may use less."""
    import torch

    from workers.arithmetic import choose_dtype
    from workers.memory import free_bytes, whole_bytes

    device = torch.device("cpu")
    whole, free = whole_bytes(device), free_bytes(device)
    limit = memory_limit(_GROUPS)
    held = limit is not None and limit < whole
    whole = limit if limit is not None and held else whole
    has = f"{whole / GIB:.1f} GiB of memory{', as the container may use' if held else ''}"
    left = "" if free is None else f", {min(free, whole) / GIB:.1f} GiB of it free"
    if (whole if free is None else min(free, whole)) < LEAST_MEMORY:
        return absent(
            "memory", f"{has}{left}: enough for small models only; end other programs, or take another machine"
        )
    size = choose_dtype("auto", device).itemsize
    needs = f"each worker on the CPU takes {size} bytes per weight, and more for long documents"
    return good("memory", f"{has}{left}: {needs}; `ropewalk plan` says what a model needs")


def memory_limit(groups: Path) -> int | None:
    """Of this container, in bytes; None without one."""
    try:
        return int((groups / "memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max"
        return None


def shared_memory(settings: Settings) -> Finding:
    """A container has 64 MiB of it unless it is asked for more."""
    try:
        free = shutil.disk_usage(_SHARED).free
    except OSError:
        return good("shared memory", "no /dev/shm on this system: files take its place")
    if free < LEAST_SHARED:
        why = "Ray goes to files, which is slow; start the container with --shm-size=1g"
        return absent("shared memory", f"{free / 1024**2:,.0f} MiB free in /dev/shm: {why}")
    return good("shared memory", f"{free / GIB:.1f} GiB free in /dev/shm, of which Ray takes 0.2")


def gpus(settings: Settings) -> Finding:
    """That torch can use."""
    import torch

    if not torch.cuda.is_available():
        works = "everything works on the CPU, large models slowly; `ropewalk plan --gpu H100` says what a GPU would do"
        build = "" if torch.version.cuda else f" (torch {torch.__version__} is built without CUDA)"
        return absent("GPU", f"none that torch can use{build}: {works}")
    known = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    names = ", ".join(f"{one.name} ({one.total_memory / GIB:.0f} GiB)" for one in known)
    return good("GPU", f"{names}: a worker or a training process takes one each")
