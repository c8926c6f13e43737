from __future__ import annotations

import pytest

from tests.helpers.controllers import LONG
from tests.helpers.postgres import create_database
from tests.helpers.studies import WholeStudy
from tests.helpers.undisturbed import calm_study


@pytest.fixture(scope="session")
def long_study(postgres_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> WholeStudy:
    """Of a search with the changes in `LONG`, undisturbed."""
    url = create_database(postgres_url, "long_undisturbed", template=template_database)
    return calm_study(url, tmp_path_factory.mktemp("long"), **LONG)
