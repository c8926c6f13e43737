"""A whole search in the caller's process: the service's own loop, where the service is installed."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ropewalk.client.calls import json_of
from ropewalk.client.progress import Moment, ProgressBar
from ropewalk.errors import RopewalkError
from ropewalk.found import Factors
from ropewalk.wire.jobs import ProgressResource

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_GROUP = "ropewalk.search"  # the service's distribution has the one entry of it


class SearchRefused(RopewalkError, RuntimeError):
    """The search cannot be done here: the message states the rule; `code` is that of the service."""

    code = "SEARCH_REFUSED"

    def __init__(self, message: str, code: str = "SEARCH_REFUSED") -> None:
        super().__init__(message)
        self.code = code


def find_factors(
    model: str | os.PathLike[str] | PreTrainedModel,
    target_length: int,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    seed: int = 0,
    progress: bool = False,
    on_progress: Callable[[ProgressResource], object] | None = None,
    **spec: Any,
) -> Factors:
    """Search, validate and return the winner: no server, no database, no other process.

    `model`: a directory, an id on the Hugging Face Hub, "pocket", or a model that transformers has loaded, with its
    `tokenizer`: it is scored where it is and in the dtype that it has, nobody else may use it meanwhile, and it is left
    as it was. Its factor file names no checksum of weights. `spec`: further fields of a search's spec, such as
    ``objective={"documents": 24}``, ``strategy={"name": "auto"}`` or ``scorer={"backend": "transformers"}``. The
    result is the one that the service has for the same spec; only the search's id is "offline". With `progress` a bar
    is drawn, as :meth:`Client.wait` does; `on_progress` hears of every score.

    Raises:
        SearchRefused: the service's distribution is not installed, or refuses the spec or the model.
        RopewalkError: what the maths refuse, with a `code` as well.
    """
    name, loaded = _name_and_model(model, tokenizer)
    text = json_of({**spec, "model": name, "target_length": target_length, "seed": seed}).decode()
    find = _service()
    try:
        with ProgressBar(os.path.basename(name), is_shown=progress) as bar:
            return Factors(find(text, _shown_on(bar, on_progress), loaded))
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(map(str, first["loc"]))
        raise SearchRefused(f"/{where}: {first['msg']}, but got {first['input']!r}", "INVALID_SPEC") from error
    except RopewalkError:
        raise
    except Exception as error:
        code = getattr(error, "code", None)
        if not isinstance(code, str):
            raise  # a fault, not a refusal
        raise SearchRefused(str(error), code) from error


def _name_and_model(
    model: str | os.PathLike[str] | PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None
) -> tuple[str, tuple[object, object] | None]:
    """What the model is called, and what is searched in place."""
    if not isinstance(model, str | os.PathLike):
        return getattr(model, "name_or_path", "") or type(model).__name__, (model, tokenizer)
    if tokenizer is not None:
        raise SearchRefused(
            f"a tokenizer is for a loaded model, but got one with the name {os.fspath(model)!r}", "INVALID_SPEC"
        )
    return os.fspath(model), None


def _shown_on(
    bar: ProgressBar, on_progress: Callable[[ProgressResource], object] | None
) -> Callable[[ProgressResource], None]:
    def show(progress: ProgressResource) -> None:
        done = progress.fraction or 0.0
        bar.show_moment(Moment(kind="search", state=progress.stage, progress=progress, done=done))
        if on_progress is not None:
            on_progress(progress)

    return show


def _service() -> Any:
    found = tuple(entry_points(group=_GROUP, name="find"))
    if not found:
        raise SearchRefused(
            "find_factors needs the service in the same environment (the distribution ropewalk-service), which is not "
            "installed; a server elsewhere searches for ropewalk.Client"
        )
    try:
        return found[0].load()
    except ImportError as error:  # such as a program's own service.py
        raise SearchRefused(
            f"find_factors needs the service's packages, but {found[0].value} cannot be imported: {error}"
        ) from error
