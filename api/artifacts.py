"""The store of files that the settings name, for processes that stay: what is wrong with it is said when they start."""

from pathlib import Path

from api.errors import InvalidSettings
from api.settings import Settings
from service.artifacts.store import ArtifactStore
from service.errors import FileMissing, FilesUnreachable


def usable_store(settings: Settings, home: Path) -> ArtifactStore:
    """The store; one that is named has been written to, read and cleaned.

    Raises:
        InvalidSettings: it cannot be used, on one line.
    """
    store = settings.store(home)
    if settings.artifacts is not None:
        try:
            store.check()
        except (FilesUnreachable, FileMissing) as error:
            raise InvalidSettings(f"ROPEWALK_ARTIFACTS must be usable, but {error}") from error
    return store
