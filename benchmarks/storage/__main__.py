"""What the store costs at size: 100 searches x 2,000 trials x 10 documents in the embedded PostgreSQL, on disk.

    python -m benchmarks.storage [--searches 100] [--trials 2000] [--documents 10] [--home DIRECTORY]

The first search is run by the controller's own code, the others are copies of its rows (`benchmarks.storage.filling`).
Then another search runs, one process answers GETs, and the dashboard is opened. A `--home` that was filled before is
used as it is. Prints Markdown. Milliseconds are of the machine at hand; beside them stands what the disk takes to
confirm one write, and what the smallest write of PostgreSQL takes, in turns with the scores.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import sqlalchemy as sa

from benchmarks.command import run_command
from benchmarks.storage.filling import copy_search
from benchmarks.storage.latency import dashboard_in_chromium, dashboard_seconds, get_latencies, serving
from benchmarks.storage.scoring import run_search_here, search_spec
from benchmarks.storage.table import HEADER, Timings
from ropewalk.rope.config import RopeConfig
from search_space.candidates.baselines import baselines
from storage.embedded.server import EmbeddedPostgres
from storage.jobs.store import JobStore
from storage.postgres.database import Database
from storage.postgres.upgrading import upgrade
from storage.study.record import StudyRecord

_SMALLEST = "INSERT INTO public.bare (value) VALUES (1)"
_BARE = "CREATE TABLE IF NOT EXISTS public.bare (id bigserial PRIMARY KEY, value float8 NOT NULL)"


def fsync_times(directory: Path, *, repeats: int = 500) -> Timings:
    """`fdatasync` of 8 KiB, in a file as large as a WAL segment."""
    seconds = []
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(bytes(16 * 2**20))
        os.fsync(file.fileno())
        for turn in range(repeats):
            os.pwrite(file.fileno(), os.urandom(8192), turn * 8192)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - started)
    return Timings(name="the disk: fdatasync of 8 KiB", seconds=tuple(seconds))


@contextlib.contextmanager
def bare_write(database: Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A session that commits each statement, for the smallest write that there is."""
    engine = database.engine
    with psycopg.connect(**engine.dialect.create_connect_args(engine.url)[1], autocommit=True) as connection:
        connection.execute(_BARE)
        yield connection
        connection.execute("DROP TABLE public.bare")


def creation_times(database: Database, *, repeats: int = 20) -> Timings:
    """A generation of 64 candidates, which is one transaction."""
    rope = RopeConfig(rope_theta=10000.0, rotary_dim=32, original_max_position_embeddings=256)
    candidates = (baselines(rope, 1024) * 64)[:64]
    jobs = JobStore(database)
    created = jobs.create("search", "{}").job.id
    claimed = jobs.claim("benchmark", 600.0, ["search"])
    assert claimed is not None
    assert claimed[0].id == created
    study = StudyRecord(database, created, claimed[1])
    study.create_if_missing(model="pocket", target_length=1024)
    seconds = []
    for generation in range(repeats):
        started = time.perf_counter()
        study.add_candidates(generation, candidates)
        seconds.append(time.perf_counter() - started)
    jobs.request(created, "cancel")
    jobs.release(claimed[1])
    return Timings(name="64 candidates created, one transaction", seconds=tuple(seconds))


def fill(database: Database, given: argparse.Namespace, home: Path) -> None:
    """Make the searches that are missing."""
    spec = search_spec(trials=given.trials, documents=given.documents, seed=0)
    ended = _searches(database)
    if not ended:
        ended = [run_search_here(database, spec, home=home).search_id]
    if len(ended) < given.searches:
        copy_search(database, ended[0], copies=given.searches - len(ended))


def _searches(database: Database) -> list[str]:
    query = "SELECT id FROM ropewalk.jobs WHERE kind = 'search' AND state = 'succeeded' ORDER BY id"
    with database.transaction() as connection:
        return list(connection.execute(sa.text(query)).scalars())


def _study(database: Database, search_id: str) -> int:
    """Optuna's number of the search's study."""
    return database.optuna_tables.get_study_id_from_name(search_id)


def _size(database: Database) -> str:
    query = "SELECT pg_size_pretty(pg_database_size(current_database()))"
    counts = "SELECT count(*) FROM ropewalk.document_scores"
    with database.transaction() as connection:
        size, scores = connection.execute(sa.text(f"SELECT ({query}), ({counts})")).one()
    return f"{scores:,} document scores, {size}"


def report(database: Database, given: argparse.Namespace, home: Path) -> Iterator[str]:
    """The lines of the report."""
    searches = _searches(database)[: given.searches]
    yield f"{len(searches)} searches x {given.trials:,} trials x {given.documents} documents: {_size(database)}; "
    yield f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before and"
    yield ""
    yield HEADER
    yield fsync_times(home).line()
    yield creation_times(database).line()
    with bare_write(database) as bare:
        spec = search_spec(trials=given.scored_trials, documents=given.documents, seed=int(time.time()))
        ran = run_search_here(database, spec, home=home, bare=lambda: bare.execute(_SMALLEST))
    yield ran.bare.line()
    yield ran.overhead.line()
    yield ran.accepting.line()
    yield ran.between.line()
    with serving(database.url, home) as client:
        for timings in get_latencies(client, searches, repeats=given.repeats):
            yield timings.line()
        yield ""
        yield "| the dashboard loads | s | kB |\n|---|---|---|"
        for path, seconds, size in dashboard_seconds(client, study=_study(database, searches[len(searches) // 2])):
            yield f"| {path} | {seconds:.2f} | {size / 1000:.0f} |"
        for turn, seconds in dashboard_in_chromium(client, study=_study(database, searches[len(searches) // 3])):
            yield f"| in Chromium, {turn} | {seconds:.2f} | |"
    yield f"\nLoad {os.getloadavg()[0]:.1f} after."


def main() -> None:
    """Fill, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=100)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--documents", type=int, default=10)
    parser.add_argument("--scored-trials", type=int, default=200, help="of the search that is timed")
    parser.add_argument("--repeats", type=int, default=200, help="of each GET")
    parser.add_argument(
        "--home", type=Path, help="where the database is, or will be created; default: a temporary directory"
    )
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        home = given.home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(EmbeddedPostgres(home)).url
        upgrade(url)
        database = stack.enter_context(contextlib.closing(Database(url)))
        fill(database, given, home)
        for line in report(database, given, home):
            print(line, flush=True)


if __name__ == "__main__":
    run_command(main)
