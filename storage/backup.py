"""A database into a file and back, by PostgreSQL's own programs, which come with the embedded server."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import closing, suppress
from pathlib import Path

import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from storage.embedded.accounts import Account, binaries_for
from storage.embedded.processes import clean_environment
from storage.errors import BackupFailed, DatabaseNotEmpty
from storage.postgres.database import Database
from storage.postgres.schema_names import OPTUNA_SCHEMA, OUR_SCHEMA
from storage.postgres.upgrading import make_current
from storage.postgres.urls import mask, parse_url

SCHEMAS = (OUR_SCHEMA, OPTUNA_SCHEMA)
_THEIRS = sa.text("SELECT nspname FROM pg_namespace WHERE nspname = ANY(:names) ORDER BY nspname")


def dump(url: str, path: Path) -> None:
    """Write both schemas, as of one moment, into a file that is there whole or not at all; servers may go on.

    Raises:
        DatabaseUnreachable, BackupFailed: why there is none.
    """
    with closing(Database(url)) as database:
        database.check()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        chosen = [f"--schema={schema}" for schema in SCHEMAS]
        _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", *chosen, f"--file={unfinished}")
        unfinished.chmod(0o600)
        unfinished.replace(path)
    except OSError as error:
        raise BackupFailed(f"the backup must be writable, but {path} is not: {error.strerror}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


def restore(url: str, path: Path) -> None:
    """Fill a database without tables from a file of `dump`, all or nothing, and upgrade it where it is older.

    Raises:
        DatabaseNotEmpty: there are tables already.
        DatabaseUnreachable, BackupFailed, SchemaTooNew: what went wrong.
    """
    with closing(Database(url)) as database, database.transaction() as connection:
        found = connection.execute(_THEIRS, {"names": list(SCHEMAS)}).scalars().all()
    if found:
        raise DatabaseNotEmpty(
            f"a backup is restored into a database without tables, but this one has {' and '.join(found)}: "
            "choose another ROPEWALK_HOME or database, or move this one away"
        )
    options = ("--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error")
    _run("pg_restore", url, *options, str(path))
    make_current(url)


def _run(program: str, url: str, *arguments: str) -> None:
    parsed = parse_url(url)
    password = str(parsed.password or "")
    given = {**parsed.translate_connect_args(username="user", database="dbname"), **parsed.query}
    target = make_conninfo(**{name: str(value) for name, value in given.items() if name != "password"})
    environment = clean_environment() | ({"PGPASSWORD": password} if password else {})
    done = subprocess.run(
        [str(binaries_for(Account()) / program), f"--dbname={target}", "--no-password", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        lines = [
            line for line in done.stderr.splitlines() if re.search("error|fatal", line)
        ] or done.stderr.splitlines()
        reason = mask(lines[0] if lines else f"code {done.returncode}", password)
        raise BackupFailed(f"{program} must end well, but did not: {reason.removeprefix(f'{program}: ')}")
