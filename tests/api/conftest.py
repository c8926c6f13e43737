"""The server under test."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from storage.postgres.database import Database
from tests.helpers.http_server import RunningServer, running_server
from tests.helpers.postgres import create_database


@pytest.fixture
def server(database: Database) -> Iterator[RunningServer]:
    """A loopback server without keys, on a database of the test's own."""
    with running_server(database) as running:
        yield running


@pytest.fixture(scope="module")
def quiet_server(postgres_url: str, template_database: str, request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A server that the module's tests share: they leave nothing behind, or do not care what they find."""
    name = "quiet_" + request.node.name.removesuffix(".py").rpartition("/")[2]
    url = create_database(postgres_url, name, template=template_database)
    with closing(Database(url)) as database, running_server(database) as running:
        yield running
