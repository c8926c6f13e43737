"""The command line. `main` is the program; `run` is the same without leaving the process.

Standard output carries results only: with `--json` nothing but JSON. Everything else goes to standard error.
Exit codes: 0 success, 1 it did not work, 2 the input breaks a rule, 130 interrupted.
"""

import functools
import json
import os
import re
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from api.commands import (
    ablate,
    demo,
    evaluate,
    exports,
    inspection,
    jobs,
    keys,
    offline,
    operations,
    plan,
    plot,
    push,
    retention,
    running,
    score,
    searches,
    serve_model,
    spec_files,
    waiting,
    webhooks,
)
from api.console import print_line
from api.errors import PROBLEM_KINDS, UnsafeBind
from api.wire.problems import Refusal, problem_of
from api.wire.words import in_words
from ropewalk.client.errors import ApiError, BadInput, ServerUnreachable
from ropewalk.version import ROPEWALK_VERSION
from ropewalk.wire.problems import Problem

_OPTION_RULE = re.compile(r"Invalid value for '(?P<option>--[\w-]+)': (?P<rule>Input should be .+?)\.?")
OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def _print_version(asked: bool) -> None:
    if asked:
        print_line(ROPEWALK_VERSION)
        raise typer.Exit


app = typer.Typer(
    name="ropewalk",
    help="Find the RoPE rescale factors that extend a language model's context window.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for commands in (
    running,
    serve_model,
    searches,
    spec_files,
    exports,
    plot,
    jobs,
    push,
    waiting,
    retention,
    evaluate,
    inspection,
    plan,
    offline,
    score,
    ablate,
    keys,
    webhooks,
    operations,
    demo,
):
    commands.register(app)


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
    ca: Annotated[
        Path | None, typer.Option("--ca", help="Certificates (PEM) to trust for https://, as SSL_CERT_FILE names them.")
    ] = None,
) -> None:
    """Find the RoPE rescale factors that extend a language model's context window."""
    if ca is not None:
        _trust(ca)


def _trust(ca: Path) -> None:
    """Let every connection of this process trust the file's certificates.

    Raises:
        BadInput: it cannot be read, or holds none.
    """
    try:
        ssl.create_default_context(cafile=ca)
    except OSError as error:  # an SSLError is one
        reason = error.strerror or error
        raise BadInput(f"--ca must be a file of PEM certificates, but {ca} is not: {reason}") from error
    os.environ["SSL_CERT_FILE"] = str(ca)


def main() -> None:
    """The `ropewalk` program."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors are reported on standard error, on one line."""
    try:
        code = _command()(args=list(arguments) or ["--help"], prog_name="ropewalk", standalone_mode=False)
        return code if isinstance(code, int) else OK
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, e.g. `| head`
        return FAILED
    except TyperException as error:
        return _tell(Problem.model_validate(_usage_problem(error, arguments)), BAD_INPUT, arguments)
    except Exception as error:
        problem = _problem(error)
        if problem is None:
            raise
        return _tell(problem, _exit_code(error), arguments)


@functools.cache
def _command() -> Callable[..., object]:
    """Every command with its options, read off the functions' signatures once."""
    return typer.main.get_command(app)


def _problem(error: Exception) -> Problem | None:
    """The error as a problem document; None for one that no room raises on purpose."""
    if isinstance(error, ApiError):
        return Problem(
            type=f"urn:ropewalk:problem:{error.code.lower().replace('_', '-')}",
            title=PROBLEM_KINDS[error.code].title if error.code in PROBLEM_KINDS else "The request was refused",
            status=error.status,
            detail=error.detail,
            instance="",
            code=error.code,
            errors=list(error.errors) or None,
        )
    code = getattr(error, "code", None)
    if not isinstance(code, str) or code not in PROBLEM_KINDS:
        return None
    return problem_of(Refusal(code=code, detail=str(error)), instance="", request_id=None)


def _usage_problem(error: TyperException, arguments: Sequence[str]) -> dict[str, object]:
    refusal = Refusal(code="BAD_INPUT", detail=_with_value(error.format_message(), arguments))
    return problem_of(refusal, instance="", request_id=None).model_dump()


def _with_value(message: str, arguments: Sequence[str]) -> str:
    """A rule of an option's type, in our words and with the value that breaks it, which the library leaves out."""
    found = _OPTION_RULE.fullmatch(message)
    if found is None or (option := found["option"]) not in arguments[:-1]:
        return message
    return f"{option} {in_words(found['rule'])}, but got {arguments[list(arguments).index(option) + 1]}"


def _exit_code(error: Exception) -> int:
    if isinstance(error, ApiError):
        return BAD_INPUT if error.status in (400, 413, 415, 422) else FAILED
    if isinstance(error, ServerUnreachable):
        return FAILED
    return BAD_INPUT if isinstance(error, (ValueError, LookupError, UnsafeBind)) else FAILED


def _tell(problem: Problem, code: int, arguments: Sequence[str]) -> int:
    if "--json" in arguments:
        sys.stderr.write(json.dumps(problem.model_dump(exclude_none=True)) + "\n")
    else:
        sys.stderr.write(f"ropewalk: {' '.join(problem.detail.split())}\n")
    return code


if __name__ == "__main__":
    main()
