"""A database user who may only read and write rows runs all but migrations, by the GRANTs of the documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from api.cli import run
from api.databases import open_database
from api.settings import Settings
from storage.errors import SchemaOutdated
from storage.postgres.database import Database
from storage.postgres.upgrading import upgrade
from tests.helpers.controllers import controller_process, has_ended, submit
from tests.helpers.http_server import POCKET_SPEC, running_server
from tests.helpers.paths import ROOT
from tests.helpers.postgres import execute
from tests.helpers.studies import WholeStudy, whole_study
from tests.helpers.waiting import wait_until

DATABASE = "documented"


def blocks() -> tuple[str, str]:
    """What the documentation has a superuser run, and the owner."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.split("### Roles\n")[1].split("\n### ")[0]
    superuser, owner = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    return superuser.replace("DATABASE ropewalk ", f"DATABASE {DATABASE} "), owner


def url_of(server_url: str, user: str) -> str:
    return sa.make_url(server_url).set(username=user, database=DATABASE).render_as_string(hide_password=False)


@pytest.fixture
def roles(postgres_url: str) -> Iterator[tuple[str, str]]:
    """The URLs of the owner, who has made the tables, and of the service."""
    superuser, grants = blocks()
    for statement in filter(str.strip, superuser.split(";")):
        execute(postgres_url, statement)
    owner, service = (url_of(postgres_url, f"ropewalk_{role}") for role in ("owner", "service"))
    upgrade(owner)
    execute(owner, grants)
    yield owner, service
    for statement in (
        f"DROP DATABASE {DATABASE} WITH (FORCE)",
        "DROP ROLE ropewalk_owner",
        "DROP ROLE ropewalk_service",
    ):
        execute(postgres_url, statement)


def test_the_service_needs_to_read_and_write_rows_only(
    roles: tuple[str, str],
    undisturbed: WholeStudy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    owner, service = roles
    monkeypatch.setenv("ROPEWALK_DATABASE_URL", service)
    with open_database(Settings()) as database:
        search_id = submit(database)
        with controller_process(service, tmp_path):
            wait_until(lambda: has_ended(database, search_id))
        assert whole_study(database, search_id) == undisturbed
        assert run(["keys", "create", "somebody", "--json"]) == 0
        token = json.loads(capsys.readouterr().out)["token"]
        with running_server(database) as server, server.http as http:
            headers = {"Authorization": f"Bearer {token}"}
            assert http.post("/v1/searches", json=POCKET_SPEC, headers=headers).status_code == 202
            assert server.jobs.get(search_id).state.is_final
            assert http.delete(f"/v1/searches/{search_id}", headers=server.operator).status_code == 200
            for path in ("/readyz", "/v1/searches", "/metrics", "/dashboard", "/api/studies"):
                assert http.get(path, headers=headers).status_code == 200, path
        assert run(["keys", "revoke", token.split("_")[1]]) == 0
    execute(owner, "CREATE TABLE ropewalk.artifacts ()", "UPDATE ropewalk.alembic_version SET version_num = '0004'")
    with (
        pytest.raises(SchemaOutdated, match=r"ropewalk=0004.*db upgrade` as their owner") as refused,
        open_database(Settings()),
    ):
        pass
    assert "\n" not in str(refused.value)
    assert run(["keys", "list"]) == 1
    with closing(Database(owner)) as database, pytest.raises(SchemaOutdated):
        database.check()
