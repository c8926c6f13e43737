from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.postgres import create_database
from tests.helpers.studies import WholeStudy
from tests.helpers.undisturbed import calm_study

#: What makes a search of 200 trials, ten of them baselines, and some 1,100 document passes.
LONG: dict[str, Any] = {
    "strategy": {
        "name": "evolution",
        "population": 32,
        "iterations": 9,
        "parents": 16,
        "mutations": 10,
        "crossovers": 8,
    },
    "objective": {"documents": 5, "validation_documents": 12},
    "budget": {"max_trials": 190},
}


@pytest.fixture(scope="session")
def long_study(postgres_url: str, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> WholeStudy:
    """Of a search with the changes in `LONG`, undisturbed."""
    url = create_database(postgres_url, "long_undisturbed", template=template_database)
    return calm_study(url, tmp_path_factory.mktemp("long"), **LONG)
