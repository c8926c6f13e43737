"""The worker for CPUs; vLLM's own is there to be imported in its builds for them alone."""

from vllm.v1.worker.cpu_worker import CPUWorker

from ropewalk.serving.worker import SwitchingGpuWorker


class SwitchingCpuWorker(SwitchingGpuWorker, CPUWorker):  # type: ignore[misc]
    """vLLM's, with windows."""
