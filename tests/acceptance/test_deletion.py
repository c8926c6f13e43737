"""`ropewalk serve` is killed while it deletes: nothing is half there afterwards."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from ropewalk.client.errors import ApiError, ServerUnreachable
from tests.helpers.http_server import POCKET_SPEC
from tests.helpers.server_process import START_SECONDS, operator_of, own_directory, server, wait_for
from tests.helpers.waiting import free_port, wait_until

__all__ = ["own_directory"]

FILES = 5000  # some tenths of a second to remove


@pytest.mark.slow
def test_a_server_that_is_killed_while_it_removes_files_leaves_none_at_the_next_start(own_directory: Path) -> None:
    home, port = own_directory / "home", free_port()
    artifacts, log = home / "artifacts", own_directory / "server.log"
    with operator_of(home, port) as client, operator_of(home, port) as other:
        with server(home, port, "--no-controller") as process:
            wait_for(lambda: client.ready() is not None, START_SECONDS, log)
            job_id = client.submit(POCKET_SPEC).id
            client.cancel(job_id)
            directory = artifacts / job_id
            directory.mkdir(parents=True)
            for number in range(FILES):
                (directory / f"part-{number}").write_bytes(b"x")

            def delete() -> None:
                with suppress(ServerUnreachable):
                    client.delete(job_id)

            asked = threading.Thread(target=delete)
            asked.start()
            wait_until(lambda: not directory.exists())  # moved aside: the database part is done
            os.killpg(process.pid, signal.SIGKILL)
            asked.join()
        with server(home, port, "--no-controller"):
            wait_for(lambda: other.ready() is not None, START_SECONDS, log)
            with pytest.raises(ApiError, match="local deleted"):
                other.get(job_id)
            wait_until(lambda: os.listdir(artifacts) == [])
            assert 'ropewalk_jobs{kind="search",state="cancelled"} 0.0' in other.metrics()
