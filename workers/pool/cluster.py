"""Ray, started or joined once per process."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import ray
from ray.exceptions import RayError

from workers.errors import ScorerUnavailable, WorkerLost
from workers.pool.ray_start import short_directory, start_patiently
from workers.pool.room import Resources

# Documents and factors are small; Ray's default would take 30 % of the machine's memory.
OBJECT_STORE_BYTES = 200 * 1024**2

_ANSWER_SECONDS = 10.0

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_joined: _Joined | None = None  # what this process asked for when it connected


@dataclass(frozen=True, kw_only=True, slots=True)
class _Joined:
    address: str | None
    num_cpus: int | None
    num_gpus: int | None
    dashboard: bool


def ensure_ray(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    dashboard: bool = False,
) -> None:
    """Connect this process to Ray; nothing happens when it is already connected, however that came about.

    A cluster that has died, every machine of it, is left and rejoined, or started again if it was this process's own:
    with the arguments of the first time. What ran on it is lost and says so.

    Without `address` a local cluster of this process's own starts, next to any other Ray on the machine, and ends with
    the process, killed or not. With one ("host:port", "ray://host:port", "auto") the cluster there is joined, and the
    other arguments do not apply. Workers run one CPU thread each unless a scorer's settings say more. Thread-safe.

    Raises:
        ScorerUnavailable: nobody answers at `address`, or no local cluster can start.
        WorkerLost: the cluster has died, and there is no other yet.
    """
    global _joined
    with _lock:
        wanted = _Joined(address=address, num_cpus=num_cpus, num_gpus=num_gpus, dashboard=dashboard)
        if ray.is_initialized():
            if is_any_machine_alive():
                return
            _log.warning("the Ray cluster has died: reconnecting")
            ray.shutdown()
        try:
            _join(_joined or wanted)
        except ScorerUnavailable as error:
            if _joined is None:
                raise
            raise WorkerLost(f"the Ray cluster has died, and there is no other: {error}") from error
        _joined = _joined or wanted


def is_any_machine_alive() -> bool:
    """Whether the cluster that this process is connected to has a machine left."""
    return any(node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]


def machines() -> tuple[Mapping[str, float], ...]:
    """What each machine of the cluster has, in use or not: a worker and its ranks are on one."""
    return tuple(node["Resources"] for node in ray.nodes() if node["Alive"])  # type: ignore[no-untyped-call]


def resources() -> Resources:
    """What the cluster that this process is connected to has now."""
    return Resources(nodes=machines(), free=ray.available_resources())  # type: ignore[no-untyped-call]


def known_resources() -> Resources | None:
    """The same; None while this process is connected to no cluster, or to one that has died."""
    try:
        found = resources() if ray.is_initialized() else None
    except RayError:
        return None
    return found if found is not None and found.nodes else None


def _join(wanted: _Joined) -> None:
    address = wanted.address
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's next default; silences its notice
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            _init(wanted)
        else:
            start_patiently(lambda: _init(wanted))
    except ScorerUnavailable:
        raise
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and its own
        raise ScorerUnavailable(
            f"Ray must be reachable, but connecting to RAY_ADDRESS={address!r} gave {type(error).__name__}: {error}"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_terminate)  # Ray puts its own there, and servers have theirs


def _check_answers(address: str) -> None:
    """Ray would ask for a minute and a half, with a line of its own for each attempt.

    Raises:
        ScorerUnavailable: nothing listens at host:port; other addresses are left to Ray.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ScorerUnavailable(
            f"a Ray cluster must answer at RAY_ADDRESS, but at {address!r} nothing does: {error}; start its head "
            "(ray start --head), or unset it for a cluster on this machine alone"
        ) from error


def _init(wanted: _Joined) -> None:
    address = wanted.address
    if address:
        _check_answers(address)
    directory = None if address else short_directory()
    ray.shutdown()  # of an attempt that failed half way
    ray.init(
        address=address or "local",
        num_cpus=None if address else wanted.num_cpus,
        num_gpus=None if address else wanted.num_gpus,
        include_dashboard=None if address else wanted.dashboard,
        object_store_memory=None if address else OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
        _temp_dir=directory,
    )


def shutdown_ray() -> None:
    """Leave the cluster; a local one ends. Does nothing when not connected."""
    global _joined
    with _lock:
        _joined = None
        if ray.is_initialized():
            ray.shutdown()
