"""What parts of a training need beside this project's own requirements."""

from importlib.util import find_spec

from finetune.errors import InvalidFinetuneSettings


def check_installed(package: str, *, extra: str, wanted: str) -> None:
    """Raise InvalidFinetuneSettings where `package` is missing, which `extra` installs and `wanted` is done with."""
    if find_spec(package) is None:
        raise InvalidFinetuneSettings(f"{wanted} needs {package}, which is not installed: pip install '.[{extra}]'")
