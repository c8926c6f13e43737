"""Ray, started once per process and next to another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from tests.helpers.paths import ROOT
from tests.helpers.samples import ORIGINAL_LENGTH, TARGET_LENGTH
from workers.base import ScorerSettings
from workers.errors import ScorerUnavailable
from workers.pool.cluster import ensure_ray
from workers.pool.room import gpu_share

ELSEWHERE = """
import ray
from workers.pool.cluster import ensure_ray, shutdown_ray
ensure_ray({address!r}, num_cpus=1)
import signal
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
print(ray.cluster_resources()["CPU"], ray.get_runtime_context().gcs_address)
shutdown_ray()
"""


def in_another_process(address: str | None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", ELSEWHERE.format(address=address)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.usefixtures("ray_cluster")
class TestEnsureRay:
    def test_twice_is_once(self) -> None:
        before = ray.get_runtime_context().gcs_address
        ensure_ray(num_cpus=7)
        assert ray.get_runtime_context().gcs_address == before

    def test_without_an_address_another_ray_is_left_alone_and_nothing_is_said(self, tmp_path: Path) -> None:
        """In a scratch directory as batch jobs have them, too long for the names of sockets."""
        scratch = tmp_path / "scratch-of-a-batch-job" / "job-1234567890" / "step-0" / "node-with-a-long-name"
        scratch.mkdir(parents=True)
        done = in_another_process(None, TMPDIR=str(scratch))
        assert done.returncode == 0, done.stderr
        cpus, address = done.stdout.split()
        assert float(cpus) == 1.0
        assert address != ray.get_runtime_context().gcs_address
        assert done.stderr == ""

    def test_with_an_address_that_cluster_is_joined(self) -> None:
        here = ray.get_runtime_context().gcs_address
        done = in_another_process(here)
        assert done.stdout.split() == ["2.0", here], done.stderr

    def test_workers_run_one_thread_each(self) -> None:
        @ray.remote
        def threads() -> str:
            import os

            return os.environ["OMP_NUM_THREADS"]

        assert ray.get(threads.remote()) == "1"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "[::1]:1", "no-such-host.invalid:6379"])
def test_nobody_answers(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr("workers.pool.cluster._joined", None)  # whatever cluster another test has joined
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("it would ask for a minute and a half"))
    with pytest.raises(ScorerUnavailable, match=r"must answer at RAY_ADDRESS, but at .* nothing does: .*unset it"):
        ensure_ray(address)


@pytest.mark.parametrize(
    ("backend", "gpus", "workers", "cluster_gpus", "share"),
    [
        ("transformers", None, 2, 0.0, 0.0),
        ("transformers", None, 2, 4.0, 1.0),
        ("transformers", None, 3, 1.0, 0.3333),
        ("transformers", 0.25, 2, 4.0, 0.25),
        ("analytic", None, 2, 4.0, 0.0),
    ],
)
def test_gpu_share(backend: str, gpus: float | None, workers: int, cluster_gpus: float, share: float) -> None:
    settings = ScorerSettings(
        model="pocket",
        backend=backend,
        target_length=TARGET_LENGTH,
        original_length=ORIGINAL_LENGTH,
        gpus=gpus,
    )
    assert gpu_share(settings, workers=workers, cluster_gpus=cluster_gpus) == share
