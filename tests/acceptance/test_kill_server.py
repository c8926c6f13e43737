"""A worker and then the server are killed with SIGKILL in the middle of a search; it ends with the same factors.

Everything is real here: the command line, the embedded PostgreSQL, Ray, the pocket model.
"""

from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from ropewalk.client.sync import Client
from ropewalk.wire.jobs import JobResource
from ropewalk.wire.reports import SearchReport
from storage.embedded.server import EmbeddedPostgres
from storage.postgres.database import Database
from tests.helpers.processes import below
from tests.helpers.searches import forget_scores
from tests.helpers.server_process import SEARCH_SECONDS, Served, wait_for

SPEC: dict[str, Any] = {
    "model": "pocket",
    "target_length": 384,
    "objective": {"documents": 4, "validation_documents": 4},
    "strategy": {"name": "auto", "startup": 8, "batch": 3, "generations": 1, "first_documents": 2, "leaders": 2},
    "scorer": {"backend": "transformers", "attention_factor": "search"},
    "seed": 11,
}


def essence(client: Client, search: JobResource) -> tuple[object, object]:
    assert search.state == "succeeded", search.error
    file = search.report(SearchReport).factors
    trials = [trial.model_dump() for trial in client.trials(search.id, full=True)]
    return replace(file, search=None), trials


@pytest.mark.timeout(600)
def test_a_search_survives_kill_9_of_the_server(served: Served) -> None:
    client, log = served.client, served.log
    disturbed = client.submit(SPEC)
    wait_for(lambda: client.get(disturbed.id).progress.document_passes >= 5, SEARCH_SECONDS, log)
    below("ray::ScoringActor", served.process.pid)[0].kill()
    wait_for(lambda: client.get(disturbed.id).progress.document_passes >= 30, SEARCH_SECONDS, log)
    served.kill()
    assert served.stray_lines() == [], "whatever Ray says of a worker that was killed"
    served.ensure_ready()
    before = client.get(disturbed.id)
    assert not before.is_final, "the search must have been in the middle when the server was killed"
    wait_for(lambda: client.get(disturbed.id).is_final, SEARCH_SECONDS, log)
    # Where the scores are known already, it would be compared with itself.
    with closing(Database(EmbeddedPostgres(served.home).url)) as database:
        forget_scores(database)
    undisturbed = client.submit(SPEC)
    wait_for(lambda: client.get(undisturbed.id).is_final, SEARCH_SECONDS, log)
    ended = client.get(undisturbed.id)
    assert ended.progress.cached_passes == 0
    assert essence(client, client.get(disturbed.id)) == essence(client, ended)
