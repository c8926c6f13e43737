"""The database that the settings name, for the server and for the commands that work on it directly."""

import contextlib
from collections.abc import Iterator

from api.preflight import make_home
from api.settings import Settings
from storage.embedded.server import EmbeddedPostgres
from storage.postgres.database import Database
from storage.postgres.upgrading import make_current


@contextlib.contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """The database of the settings, embedded if they name none, with a current schema.

    Raises:
        StorageNotWritable, DatabaseUnreachable, SchemaOutdated, SchemaTooNew, SharedSessions: why there is none.
    """
    with running_database(settings) as url:
        make_current(url)
        with contextlib.closing(Database(url)) as database:
            yield database


@contextlib.contextmanager
def running_database(settings: Settings) -> Iterator[str]:
    """The URL of the settings' database, embedded and running if they name none; its tables may be missing.

    Raises:
        StorageNotWritable, DatabaseUnreachable: why there is none.
    """
    if settings.database is not None:
        yield settings.database
        return
    with EmbeddedPostgres(make_home(settings.home)) as embedded:
        yield embedded.url
