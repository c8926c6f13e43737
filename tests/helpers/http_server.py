"""A real server in a thread, and short ways to jobs in every state."""

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn

from api.http.app import create_app
from api.local_token import ensure_token
from api.preflight import bind
from api.server import uvicorn_config
from api.settings import Settings, is_loopback
from evaluation.scores.score import DocumentScore
from ropewalk.client.sync import Client
from ropewalk.client.token import TOKEN_FILE
from ropewalk.factors.factor_file import FactorFile, ModelIdentity
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.published import PairFactors
from ropewalk.wire.kinds import JobState
from search_space.candidates.baselines import baseline, baselines
from service.door import Door
from service.webhooks.addresses import networks_of
from storage.api_keys import ApiKeys
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.records import Lease, Progress, StoredScore
from storage.study.record import StudyRecord
from tests.helpers.accepting import accept
from tests.helpers.waiting import wait_until

ROPE = RopeConfig(rope_theta=10000.0, rotary_dim=32, original_max_position_embeddings=256)
POCKET_SPEC: dict[str, object] = {"model": "pocket", "target_length": 1024}
TOKEN = "the-token-of-every-server-that-a-test-starts-and-restarts"
SPEC_JSON = json.dumps(POCKET_SPEC)


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """A server that answers, and the stores behind it."""

    url: str
    database: Database
    jobs: JobStore
    keys: ApiKeys
    home: Path
    #: whether it listens where others reach it, so that its token counts for nothing
    is_open: bool

    @property
    def token(self) -> str:
        """What the operator sends."""
        return ensure_token(self.home)

    @property
    def operator(self) -> dict[str, str]:
        """The operator's headers."""
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def stranger(self) -> httpx.Client:
        """A plain HTTP client that sends neither key nor token."""
        return httpx.Client(base_url=self.url, timeout=30, verify=False)

    @property
    def http(self) -> httpx.Client:
        """The operator's plain HTTP client, for what the typed one would not do."""
        headers = {} if self.is_open else self.operator
        return httpx.Client(base_url=self.url, timeout=30, verify=False, headers=headers)  # reading CAs is slow

    def client(self, key: str | None = None) -> Client:
        """The typed client."""
        return Client(self.url, key=key)


@contextmanager
def running_server(
    database: Database, *, host: str = "127.0.0.1", port: int = 0, **settings: object
) -> Iterator[RunningServer]:
    """A server on a free port. `host` is what its access rule sees; it listens on loopback in any case. Clients of this
    process find its token in ROPEWALK_HOME."""
    listener = bind("127.0.0.1", port)
    keys = ApiKeys(database)
    given = Settings.model_validate({"host": host, **settings})
    before = os.environ.get("ROPEWALK_HOME")
    home = Path(tempfile.mkdtemp(prefix="ropewalk-token-"))
    (home / TOKEN_FILE).write_text(TOKEN)
    os.environ["ROPEWALK_HOME"] = str(home)
    door = Door(database, home=home, webhook_networks=networks_of(given.webhook_networks))
    app = create_app(door, keys, given, open_optuna_storage=lambda: database.dashboard, token=ensure_token(home))
    server = uvicorn.Server(uvicorn_config(app))
    server.config.timeout_graceful_shutdown = 1
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="test-server")
    thread.start()
    try:
        wait_until(lambda: server.started)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield RunningServer(
            url=url, database=database, jobs=JobStore(database), keys=keys, home=home, is_open=not is_loopback(host)
        )
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
        shutil.rmtree(home)
        os.environ.pop("ROPEWALK_HOME")
        if before is not None:
            os.environ["ROPEWALK_HOME"] = before


def claimed_search(jobs: JobStore, *, spec_json: str = SPEC_JSON) -> Lease:
    """A search in state searching, in our hands."""
    created = jobs.create("search", spec_json).job
    claimed = jobs.claim("test", 60)
    assert claimed is not None
    assert claimed[0].id == created.id
    jobs.transition(claimed[1], JobState.preparing)
    jobs.transition(claimed[1], JobState.searching)
    return claimed[1]


def finish_search(jobs: JobStore, lease: Lease) -> None:
    """Let a search that is searching succeed with the YaRN factors."""
    jobs.transition(lease, JobState.validating)
    result = {"statement": "yarn it is", "verdict": "is_best_baseline", "factors": json.loads(factor_file().to_json())}
    jobs.transition(lease, JobState.succeeded, result_json=json.dumps(result), progress=Progress(stage="done"))


def factor_file() -> FactorFile:
    """The YaRN factors of the pocket model at 1024 tokens."""
    return FactorFile(
        model=ModelIdentity.of(ROPE, name="pocket"),
        original_max_position_embeddings=256,
        target_length=1024,
        attention_factor=1.0,
        short_factor=PairFactors((1.0,) * ROPE.num_pairs),
        long_factor=PairFactors(baseline("yarn", ROPE, 1024).scaling.factors.values),
    )


def add_trials(database: Database, lease: Lease, *, scored: int) -> int:
    """The eight baselines as trials of the search; the first `scored` of them on two validation documents."""
    study = StudyRecord(database, lease.job_id, lease)
    study.create_if_missing(model="pocket", target_length=1024)
    numbers = study.add_candidates(0, baselines(ROPE, 1024))
    for number in numbers[:scored]:
        study.start(number)
        study.finish(number, 0.1 * (number + 1))
        for index in range(2):
            score = DocumentScore(document_id=f"validation-0-1024-{index:05d}", nats=0.7, tokens=7, exact=True)
            accept(database, lease, StoredScore(split="validation", trial=number, score=score, worker="test:1"))
    return len(numbers)
