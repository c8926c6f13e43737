"""Which vLLM is installed, and whether the scorer can use it: the package knows, for its plugin."""

from ropewalk.serving.version import VLLM_VERSION, vllm_problem, vllm_version

__all__ = ["VLLM_VERSION", "vllm_problem", "vllm_version"]
