"""RoPE rescale factors that extend a language model's context window, in Python programs.

    import ropewalk

    with ropewalk.Client("http://127.0.0.1:8000") as client:
        search = client.submit({"model": "pocket", "target_length": 1024})
        client.wait(search.id, progress=True)
        factors = client.factors(search.id)

    with factors.apply(model):
        ids = ropewalk.generate(model, input_ids, max_new_tokens=500)

Names are loaded when they are used; `Factors.apply` and `generate` need torch and transformers, and nothing else does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ropewalk.client.asynchronous import AsyncClient
    from ropewalk.client.errors import ApiError, BadInput, IncompatibleServer, ServerUnreachable
    from ropewalk.client.sync import Client
    from ropewalk.errors import FactorsDoNotFit, InvalidFactorFile, RopewalkError
    from ropewalk.found import Factors
    from ropewalk.models.generating import generate
    from ropewalk.searching import SearchRefused, find_factors

    __version__: str

_HOMES = {
    "AsyncClient": "ropewalk.client.asynchronous",
    "Client": "ropewalk.client.sync",
    "ApiError": "ropewalk.client.errors",
    "BadInput": "ropewalk.client.errors",
    "IncompatibleServer": "ropewalk.client.errors",
    "ServerUnreachable": "ropewalk.client.errors",
    "Factors": "ropewalk.found",
    "FactorsDoNotFit": "ropewalk.errors",
    "InvalidFactorFile": "ropewalk.errors",
    "RopewalkError": "ropewalk.errors",
    "SearchRefused": "ropewalk.searching",
    "find_factors": "ropewalk.searching",
    "generate": "ropewalk.models.generating",
}

__all__ = [
    "ApiError",
    "AsyncClient",
    "BadInput",
    "Client",
    "Factors",
    "FactorsDoNotFit",
    "IncompatibleServer",
    "InvalidFactorFile",
    "RopewalkError",
    "SearchRefused",
    "ServerUnreachable",
    "__version__",
    "find_factors",
    "generate",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from ropewalk.version import ROPEWALK_VERSION

        return ROPEWALK_VERSION
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ropewalk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
