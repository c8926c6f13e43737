"""The PostgreSQL server that comes along: real PostgreSQL from a wheel, in our directory, reached by a socket only.

The server outlives a killed owner, and the next start attaches to it or recovers its data. Whoever uses it holds a
shared lock that the kernel drops on death, so the last one to call `stop()` knows that it is the last.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql
from sqlalchemy import URL

from evaluation.models.user_path import user_path
from storage.embedded.accounts import Account, binaries_for, server_account
from storage.embedded.processes import clean_environment, locked, processes_in, tail, works_in
from storage.errors import DatabaseUnreachable, StorageNotWritable

logger = logging.getLogger(__name__)

DATABASE = "ropewalk"
SUPERUSER = "ropewalk"
PORT = 5432  # only names the socket file: no network address is listened on
START_TIMEOUT = 120  # seconds: recovery after a crash can take long
ORPHAN_TIMEOUT = 20  # seconds for the processes of a killed server to notice its death
MAX_SOCKET_PATH = 100  # bytes; Linux allows 107, macOS 103

SETTINGS = (
    "listen_addresses=",
    "unix_socket_permissions=0700",
    f"port={PORT}",
    "fsync=on",
    "timezone=UTC",
    "log_timezone=UTC",
)


class EmbeddedPostgres:
    """The server whose files lie in `<home>/postgres`.

    `start()` makes the cluster at first, attaches to a server that already runs, and otherwise starts one, in a session
    of its own, so that a terminal's Ctrl-C never reaches it. Not thread-safe; any number of processes may use one home.

    Raises:
        StorageNotWritable: the home cannot be written; the message names the path.
        DatabaseUnreachable: the server does not start; the message ends with its log.
    """

    def __init__(self, home: Path) -> None:
        self._root = user_path(str(home)).absolute() / "postgres"
        self._data = self._root / "data"
        self._log = self._root / "postgres.log"
        self._users_fd: int | None = None

    def __repr__(self) -> str:
        return f"EmbeddedPostgres({str(self._root.parent)!r})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the database is, whether or not the server runs."""
        return self._url(DATABASE)

    def start(self) -> str:
        """The URL of the database, once it answers. Starting twice is starting once."""
        if self._users_fd is not None:
            return self.url
        self._make_root()
        account = server_account(self._root)
        with self._starting_or_stopping():
            self._make_cluster(account)
            if not self._answers():
                self._start_server(account)
            self._make_database()
            self._users_fd = locked(self._root / "users.lock", fcntl.LOCK_SH)
        return self.url

    def stop(self) -> None:
        """Let go of the server; the last one to let go stops it, cleanly. Without `start()` it does nothing."""
        if self._users_fd is None:
            return
        fd, self._users_fd = self._users_fd, None
        with self._starting_or_stopping():
            try:
                if self._is_last_user(fd):
                    self._stop_server(server_account(self._root))
            finally:
                os.close(fd)

    # -- files and locks ---------------------------------------------------------------------------------------------

    def _make_root(self) -> None:
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._root.chmod(0o700)
            os.close(os.open(self._root / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StorageNotWritable(
                f"the embedded database needs a directory that it can write, but {self._root} cannot be written: "
                f"{error.strerror or error}. Choose another ROPEWALK_HOME, or a server with ROPEWALK_DATABASE_URL."
            ) from error

    @contextmanager
    def _starting_or_stopping(self) -> Iterator[None]:
        fd = locked(self._root / "start.lock", fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(fd)

    @staticmethod
    def _is_last_user(fd: int) -> bool:
        """Whether the shared lock can become exclusive; the start lock keeps anybody from coming in meanwhile."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    # -- the cluster and its server ----------------------------------------------------------------------------------

    def _make_cluster(self, account: Account) -> None:
        """initdb beside the final place and rename, so that a half-made cluster is never taken for a whole one."""
        account.own(self._root)
        if (self._data / "PG_VERSION").exists():
            return
        half_made = self._root / "data.new"
        shutil.rmtree(half_made, ignore_errors=True)
        options = ("--auth=trust", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8")
        self._run(account, "initdb", "-D", str(half_made), "-U", SUPERUSER, *options)
        half_made.rename(self._data)

    def _start_server(self, account: Account) -> None:
        self._remove_stale_locks(account)
        settings = " ".join(f"-c {setting}" for setting in SETTINGS)
        settings += f" -c unix_socket_directories='{self._socket_directory(account)}'"
        wait = ("-w", "-t", str(START_TIMEOUT))
        self._run(account, "pg_ctl", "start", "-D", str(self._data), "-l", str(self._log), *wait, "-o", settings)

    def _stop_server(self, account: Account) -> None:
        """Fast stop: open sessions are ended, everything committed is on disk."""
        if self._server_pid() is None:
            return
        try:
            self._run(account, "pg_ctl", "stop", "-D", str(self._data), "-m", "fast", "-w", "-t", str(START_TIMEOUT))
        except DatabaseUnreachable:
            if self._server_pid() is not None:  # else it died meanwhile, which the next start recovers from
                raise

    def _server_pid(self) -> int | None:
        """The process that serves our data: that of the pid file, if it is alive and works in our directory."""
        try:
            pid = int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return pid if works_in(pid, self._data) else None

    def _remove_stale_locks(self, account: Account) -> None:
        """Clear what would keep a dead server from starting again: its pid file, and the lock of its socket.

        PostgreSQL recovers from them by itself, except while another process bears the dead server's number, after a
        reboot for example, or the dead one itself because nobody has reaped it yet. They are removed only when no
        orphan of the dead server still works in the data: with them goes PostgreSQL's own protection against that.
        """
        deadline = time.monotonic() + ORPHAN_TIMEOUT
        while orphans := processes_in(self._data):
            if time.monotonic() > deadline:
                logger.warning("processes %s of a dead server still work in %s", orphans, self._data)
                return
            time.sleep(0.05)
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        (self._socket_directory(account) / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)

    def _run(self, account: Account, program: str, *arguments: str) -> None:
        # Output goes to a file, for a server that inherited a pipe would keep it open forever.
        output = self._root / f"{program}.log"
        with output.open("wb") as sink:
            done = subprocess.run(
                [str(binaries_for(account) / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=clean_environment(),
                start_new_session=True,
                user=account.uid,
                group=account.gid,
                extra_groups=account.extra_groups,
            )
        if done.returncode != 0:
            raise DatabaseUnreachable(
                f"the embedded PostgreSQL in {self._root} must run, but {program} ended with code {done.returncode}:\n"
                f"{tail(output)}\n{tail(self._log)}"
            )

    # -- reaching it -------------------------------------------------------------------------------------------------

    def _socket_directory(self, account: Account | None = None) -> Path:
        """Our own directory, or one below /tmp when a socket's path there would be too long for the system."""
        if len(str(self._root / f".s.PGSQL.{PORT}").encode()) <= MAX_SOCKET_PATH:
            return self._root
        info = self._root.stat()
        directory = Path(f"/tmp/ropewalk-{info.st_dev:x}-{info.st_ino:x}")
        if account is not None:
            directory.mkdir(mode=0o700, exist_ok=True)
            account.own(directory)
            made = directory.lstat()
            if directory.is_symlink() or made.st_uid not in (account.uid, os.geteuid()):
                raise StorageNotWritable(f"the socket's directory must be ours, but {directory} is another user's")
        return directory

    def _url(self, database: str) -> str:
        url = URL.create(
            "postgresql+psycopg",
            username=SUPERUSER,
            database=database,
            query={"host": str(self._socket_directory()), "port": str(PORT)},
        )
        return url.render_as_string(hide_password=False)

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self._socket_directory()),
            port=PORT,
            user=SUPERUSER,
            dbname=database,
            password="",
            connect_timeout=5,
            autocommit=True,
        )

    def _answers(self) -> bool:
        """Whether a server takes connections; one that is alive but still recovering is waited for."""
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self._connect("postgres").close()
            except psycopg.OperationalError:
                if self._server_pid() is None:
                    return False
                if time.monotonic() > deadline:
                    raise DatabaseUnreachable(
                        f"the embedded PostgreSQL in {self._root} runs, but did not answer within {START_TIMEOUT} s:\n"
                        f"{tail(self._log)}"
                    ) from None
                time.sleep(0.1)
            else:
                return True

    def _make_database(self) -> None:
        with self._connect("postgres") as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if found is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
