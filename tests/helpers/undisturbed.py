"""Searches that nobody disturbs: what every disturbed one is held against."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.postgres import create_database

if TYPE_CHECKING:
    from tests.helpers.studies import WholeStudy


@pytest.fixture(scope="session")
def undisturbed(postgres_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> WholeStudy:
    """The whole study of `tests.helpers.controllers.search_spec`."""
    url = create_database(postgres_url, "undisturbed", template=template_database)
    return calm_study(url, tmp_path_factory.mktemp("undisturbed"))


def calm_study(url: str, home: Path, **changes: Any) -> WholeStudy:
    """The whole study of `search_spec` with `changes`, in an empty database."""
    # Imported here: they bring Ray and transformers along, which most tests need not wait for.
    from storage.postgres.database import Database
    from tests.helpers.controllers import controller_process, has_ended, submit
    from tests.helpers.studies import whole_study
    from tests.helpers.waiting import wait_until

    with closing(Database(url)) as calm, controller_process(url, home):
        search_id = submit(calm, **changes)
        wait_until(lambda: has_ended(calm, search_id), seconds=300)
        return whole_study(calm, search_id)
