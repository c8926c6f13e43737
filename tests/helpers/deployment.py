"""What the files that start our processes, compose and chart, may say."""

from typing import Any

import typer

from api.cli import app
from api.settings import Settings

#: Of the object store, read by its client.
AWS_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
#: Read by libraries, not by our settings.
OTHER_VARIABLES = frozenset({"OMP_NUM_THREADS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", *AWS_VARIABLES})


def setting_variables() -> set[str]:
    """The environment variables that settings are read from."""
    return {str(field.validation_alias or f"ROPEWALK_{name}".upper()) for name, field in Settings.model_fields.items()}


def find_command(words: list[str]) -> None:
    """Walk the command tree of the command line; KeyError for an unknown word, AssertionError for an option."""
    command: Any = typer.main.get_command(app)
    for word in words:
        if word.startswith("-"):
            known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
            assert word in known, f"{words} has an option that the command does not know: {word}"
        else:
            command = command.commands[word]
    assert not hasattr(command, "commands"), f"{words} is a group of commands, not a command"
