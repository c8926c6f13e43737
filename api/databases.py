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
    with contextlib.ExitStack() as stack:
        url = settings.database
        if url is None:
            url = stack.enter_context(EmbeddedPostgres(make_home(settings.home))).url
        make_current(url)
        database = Database(url)
        stack.callback(database.close)
        yield database
