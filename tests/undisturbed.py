"""The search that nobody disturbs: what every disturbed one is held against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from storage.database import Database
from tests.postgres import create_database

if TYPE_CHECKING:
    from tests.service.studies import WholeStudy


@pytest.fixture(scope="session")
def undisturbed(
    postgres_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WholeStudy]:
    """The whole study of `tests.service.processes.search_spec`."""
    # Imported here: they bring Ray and transformers along, which most tests need not wait for.
    from tests.service.processes import controller_process, has_ended, submit, wait_until
    from tests.service.studies import whole_study

    url = create_database(postgres_url, "undisturbed", template=template_database)
    with closing(Database(url)) as calm, controller_process(url, tmp_path_factory.mktemp("undisturbed")):
        search_id = submit(calm)
        wait_until(lambda: has_ended(calm, search_id))
        yield whole_study(calm, search_id)
