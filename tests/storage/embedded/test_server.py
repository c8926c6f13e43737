"""The embedded server: started, attached to, outliving its owner, and stopped by the last who uses it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from storage.embedded.server import EmbeddedPostgres
from storage.errors import StorageNotWritable
from tests.helpers.paths import ROOT
from tests.helpers.postgres import fast_directory
from tests.helpers.waiting import is_alive, wait_until

OWNER = """
import sys, time
from pathlib import Path
from storage.embedded.server import EmbeddedPostgres
import psycopg, sqlalchemy
server = EmbeddedPostgres(Path(sys.argv[1]))
url = server.start()
with psycopg.connect(sqlalchemy.make_url(url).set(drivername="postgresql").render_as_string(False)) as connection:
    connection.execute("CREATE TABLE kept (n integer)")
    connection.execute("INSERT INTO kept VALUES (42)")
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ropewalk-home-", dir=fast_directory()) as directory:
        path = Path(directory)
        yield path
        if (path / "postgres" / "data" / "postmaster.pid").exists():  # a failed test left its server behind
            server = EmbeddedPostgres(path)
            server.start()
            server.stop()


def query(url: str, statement: str) -> object:
    conninfo = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
        return None if row is None else row[0]


def postmaster(home: Path) -> int:
    return int((home / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[0])


def start_owner(home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OWNER, str(home)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert owner.stdout is not None
    assert owner.stdout.readline().strip() == "ready"
    return owner


def kill(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.wait()
    assert owner.stdout is not None
    owner.stdout.close()


def test_a_killed_owners_server_is_attached_to_then_recovered_and_at_last_stopped(home: Path) -> None:
    owner = start_owner(home)
    pid = postmaster(home)
    assert os.getsid(pid) not in (os.getsid(0), os.getsid(owner.pid))  # no Ctrl-C of a terminal reaches it
    kill(owner)
    assert is_alive(pid)

    first, second = EmbeddedPostgres(home), EmbeddedPostgres(home)
    url = first.start()
    assert first.start() == second.start() == url
    assert postmaster(home) == pid
    assert query(url, "SELECT n FROM kept") == 42
    assert query(url, "SHOW fsync") == "on"
    assert query(url, "SHOW listen_addresses") == ""
    first.stop()
    assert query(url, "SELECT n FROM kept") == 42  # the other one uses it still
    second.stop()
    second.stop()
    wait_until(lambda: not is_alive(pid))

    url = first.start()
    os.kill(postmaster(home), signal.SIGKILL)  # the machine goes down
    first.stop()
    third = EmbeddedPostgres(home)
    assert query(third.start(), "SELECT n FROM kept") == 42
    pid = postmaster(home)
    third.stop()
    wait_until(lambda: not is_alive(pid))


def test_another_process_with_the_dead_servers_number_is_no_server(home: Path) -> None:
    server = EmbeddedPostgres(home)
    server.start()
    pid_file, socket_lock = home / "postgres" / "data" / "postmaster.pid", home / "postgres" / ".s.PGSQL.5432.lock"
    texts = {file: file.read_text() for file in (pid_file, socket_lock)}
    same_user = pid_file.stat().st_uid  # another user's process would not be taken for a server by PostgreSQL either
    server.stop()
    bystander = subprocess.Popen(["sleep", "600"], cwd="/tmp", user=same_user)
    try:
        for file, text in texts.items():
            file.write_text("\n".join([str(bystander.pid), *text.splitlines()[1:]]) + "\n")
        assert query(server.start(), "SELECT 1") == 1
        assert postmaster(home) != bystander.pid
        server.stop()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_half_made_cluster_is_made_anew(home: Path) -> None:
    half_made = home / "postgres" / "data.new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18")
    with EmbeddedPostgres(home) as server:
        assert query(server.url, "SELECT 1") == 1
    assert not half_made.exists()


def test_a_long_path_gets_a_socket_elsewhere(home: Path) -> None:
    deep = home / ("d" * 100)
    with EmbeddedPostgres(deep) as server:
        assert query(server.url, "SELECT 1") == 1
        assert "/tmp/ropewalk-" in sa.make_url(server.url).query["host"]
        assert EmbeddedPostgres(deep).url == server.url


@pytest.mark.parametrize("below", ["file/home", "file"])
def test_a_home_that_cannot_be_written_is_named(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageNotWritable, match=str(tmp_path / below)) as refused:
        EmbeddedPostgres(tmp_path / below).start()
    assert isinstance(refused.value, OSError)


def start_as(uid: int, home: Path) -> str:
    """The URL or the error of a start by another user, who ends without stopping the server.

    A fork, for the interpreter's own files may be out of that user's reach.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.write(write_end, EmbeddedPostgres(home).start().encode())
        except BaseException as error:
            os.write(write_end, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write_end)
    os.waitpid(child, 0)
    with os.fdopen(read_end) as answer:
        return answer.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_it_runs_for_an_ordinary_user_and_refuses_another_ones_home(home: Path) -> None:
    nobody, daemon = 65534, 1
    home.chmod(0o755)
    assert start_as(nobody, home).startswith("StorageNotWritable: the embedded database needs a directory")
    os.chown(home, nobody, nobody)
    url = start_as(nobody, home)
    assert url.startswith("postgresql+psycopg://")
    pid = postmaster(home)
    assert Path(f"/proc/{pid}").stat().st_uid == nobody
    assert start_as(daemon, home).startswith("StorageNotWritable")
    with EmbeddedPostgres(home) as server:  # root joins, and the cluster stays its owner's
        assert server.url == url
        assert query(url, "SELECT 1") == 1
        assert postmaster(home) == pid
    wait_until(lambda: not is_alive(pid))


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can give up a capability")
def test_root_that_may_not_trace_others_knows_its_server(home: Path) -> None:
    """So it is in a container: the working directory of another user's process is hidden.

    The servers of other tests are taken for orphans of this one's, which it waits for in vain: not for long here.
    """
    restricted = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", "--", sys.executable, "-c"]
    program = "import sys\nfrom pathlib import Path\nfrom storage.embedded import server\n"
    program += "from storage.embedded.server import EmbeddedPostgres\nserver.ORPHAN_TIMEOUT = 2\n"
    program += "with EmbeddedPostgres(Path(sys.argv[1])):\n    print(open(sys.argv[2]).readline())"
    pid_file = home / "postgres" / "data" / "postmaster.pid"
    done = subprocess.run(
        [*restricted, program, home, pid_file], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    wait_until(lambda: not is_alive(int(done.stdout)))
