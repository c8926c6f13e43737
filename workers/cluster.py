"""Ray, started or joined once per process."""

from __future__ import annotations

import logging
import os
import signal
import threading

import ray

from workers.errors import ScorerUnavailable

# Documents and factors are small; Ray's default would take 30 % of the machine's memory.
OBJECT_STORE_BYTES = 200 * 1024**2

_lock = threading.Lock()


def ensure_ray(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    dashboard: bool = False,
) -> None:
    """Connect this process to Ray; nothing happens when it is already connected, however that came about.

    Without `address` a local cluster of this process's own starts, next to any other Ray on the machine, and ends with
    the process, killed or not. With one ("host:port", "ray://host:port", "auto") the cluster there is joined, and the
    other arguments do not apply. Workers run one CPU thread each unless a scorer's settings say more. Thread-safe.

    Raises:
        ScorerUnavailable: nobody answers at `address`, or no local cluster can start.
    """
    with _lock:
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's next default; silences its notice
        on_terminate = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                address=address or "local",
                num_cpus=None if address else num_cpus,
                num_gpus=None if address else num_gpus,
                include_dashboard=None if address else dashboard,
                object_store_memory=None if address else OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
            )
        except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and its own
            raise ScorerUnavailable(
                f"Ray must be reachable, but connecting to address={address!r} gave {type(error).__name__}: {error}"
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)  # Ray puts its own there, and servers have theirs


def shutdown_ray() -> None:
    """Leave the cluster; a local one ends. Does nothing when not connected."""
    with _lock:
        if ray.is_initialized():
            ray.shutdown()
