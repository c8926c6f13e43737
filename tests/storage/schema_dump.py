"""Dumps of the database as each revision left it, with a search in it: what upgrades are tested from.

    python -m tests.storage.schema_dump 0003 > tests/storage/schemas/v0003.sql

A dump is made once, with the code that makes the revision, and is never made again: it is what databases out there are
like. Its statements are those that the migrations and Optuna ran, then the rows. `psql` or one multi-statement query
loads it into an empty database.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import psycopg
import sqlalchemy as sa
from alembic import command
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from psycopg import sql
from sqlalchemy import event

from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling
from search_space.candidates.candidate import Candidate, Gene
from search_space.candidates.step import Step
from storage.embedded.server import EmbeddedPostgres
from storage.optuna_tables.storage import upgrade_tables
from storage.postgres.database import Database
from storage.postgres.schema_names import OPTUNA_SCHEMA, OUR_SCHEMA
from storage.postgres.versions import alembic_config
from storage.study.record import STEP
from storage.study.step_codec import step_to_json
from storage.study.trial_codec import to_trial

SCHEMAS = Path(__file__).with_name("schemas")

SEARCH = "srch_01m7zv2x5e0000000000000001"
FINETUNE = "ft_01m7zv2x5e0000000000000002"
AT = "2026-11-21 09:00:00.123456+00"
SPEC = {"model": "pocket", "target_length": 1024, "finetune": {"steps": 60}}
CANDIDATE = Candidate(
    scaling=Scaling(RescaleFactors((1.0, 2.0, 4.1)), 1.05),
    critical_pair=1,
    genes=(Gene(name="lambda_1", value=2.0, low=1.0, high=4.0),),
    origin="mutation",
    parents=(0,),
)
#: By table, in the order in which they refer to each other. A revision takes the columns that it has.
ROWS: dict[str, list[dict[str, object]]] = {
    "jobs": [
        {
            "id": SEARCH,
            "kind": "search",
            "state": "finetuning",
            "spec_json": json.dumps(SPEC),
            "labels": '{"team": "nlp"}',
            "progress": '{"stage": "validating", "trials": 2, "document_passes": 2, "best_nll": 0.25}',
            "result_json": '{"verdict": "beats_best_baseline"}',
            "created_at": AT,
            "started_at": AT,
            "lease_epoch": 2,
            "version": 9,
            "conditions": json.dumps(
                {"Progressing": {"status": False, "reason": "FineTuning", "message": "waits", "changed_at": AT}}
            ),
        },
        {"id": FINETUNE, "kind": "finetune", "spec_json": "{}", "parent_id": SEARCH, "created_at": AT, "failures": 1},
    ],
    "document_scores": [
        {
            "job_id": SEARCH,
            "split": "search",
            "trial": trial,
            "document_id": "search-0-1024-0",
            "nats": nats,
            "tokens": 7,
            "exact": trial == 1,
            "worker": "host:1",
            "attempts": 1,
            "seconds": 0.125,
            "lease_epoch": 1,
            "created_at": AT,
            "scorer": "0123456789abcdef",
        }
        for trial, nats in enumerate((3.5, 1.75))
    ],
    "score_cache": [{"key": "\\x" + 32 * "0f", "nats": 1.75, "tokens": 7, "exact": True, "created_at": AT}],
    "events": [{"job_id": SEARCH, "type": "job.created", "data_json": '{"kind":"search"}', "created_at": AT}],
    "job_files": [
        {
            "job_id": SEARCH,
            "name": "factors.json",
            "key": f"{SEARCH}/factors.json",
            "bytes": 3,
            "sha256": 32 * "0f",
            "created_at": AT,
        }
    ],
    "idempotency_keys": [{"principal": "alice", "key": "k", "request_hash": "search:00", "job_id": SEARCH}],
    "api_keys": [
        {
            "id": "0123456789",
            "name": "alice",
            "scopes": "{read,submit}",
            "salt": "\\x" + 16 * "0a",
            "secret_hash": "\\x" + 32 * "0b",
        }
    ],
}


def load(url: str, revision: str) -> None:
    """Load the dump of `revision` into the empty database at `url`."""
    with _connected(url) as connection:
        connection.execute((SCHEMAS / f"v{revision}.sql").read_bytes())


def migrate(url: str, revision: str) -> None:
    """Run our migrations up to `revision`."""
    config = alembic_config()
    with closing(Database(url, bounded=False)) as database, database.transaction() as connection:
        connection.execute(sa.schema.CreateSchema(OUR_SCHEMA, if_not_exists=True))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def dump(revision: str) -> str:
    """The SQL of a database at `revision` of our migrations and at Optuna's own head, with the rows."""
    with tempfile.TemporaryDirectory() as home, EmbeddedPostgres(Path(home)) as server:
        with _statements_run() as statements:
            migrate(server.url, revision)
            with closing(Database(server.url)) as database, database.transaction() as connection:
                connection.execute(sa.schema.CreateSchema(OPTUNA_SCHEMA))
            with closing(Database(server.url)) as database:
                upgrade_tables(database.engine, OPTUNA_SCHEMA)
        with _connected(server.url) as connection:
            for table, rows in ROWS.items():
                for row in rows:
                    _insert(connection, table, row)
        with closing(Database(server.url)) as database:
            _make_study(database.optuna_tables)
        with _connected(server.url) as connection:
            rows_of_all = list(_rows(connection))
    start = (f"-- Revision {revision}; made by tests/storage/schema_dump.py.", f"SET search_path = {OPTUNA_SCHEMA};")
    return "\n".join((*start, *(f"{one};" for one in statements), *rows_of_all)) + "\n"


@contextmanager
def _statements_run() -> Iterator[list[str]]:
    """The statements that make things, of any engine of this process, as the server gets them."""
    made: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        text = textwrap.dedent(statement).strip().replace("%%", "%")
        if text.startswith(("CREATE", "ALTER", "DROP")):
            made.append(text.replace("CREATE TABLE alembic_version", f"CREATE TABLE {OPTUNA_SCHEMA}.alembic_version"))

    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield made
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)


def _insert(connection: psycopg.Connection[tuple[object, ...]], table: str, row: dict[str, object]) -> None:
    """The columns of `row` that the table has, if there is such a table."""
    query = "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
    known = {str(name) for (name,) in connection.execute(query, [OUR_SCHEMA, table])}
    given = {name: value for name, value in row.items() if name in known}
    if given:
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(OUR_SCHEMA, table),
            sql.SQL(", ").join(map(sql.Identifier, given)),
            sql.SQL(", ").join(map(sql.Literal, given.values())),
        )
        connection.execute(statement)


def _make_study(storage: BaseStorage) -> None:
    """Two candidates, one of which is scored, and the step that asked for them."""
    study = optuna.create_study(storage=storage, study_name=SEARCH)
    study.set_user_attr("model", "pocket")
    study.set_user_attr("target_length", 1024)
    for slot in range(2):
        study.add_trial(to_trial(0, slot, CANDIDATE))
    first, second = study.get_trials()
    storage.set_trial_intermediate_value(second._trial_id, 0, 0.25)
    storage.set_trial_state_values(first._trial_id, TrialState.PRUNED)
    storage.set_trial_state_values(second._trial_id, TrialState.COMPLETE, [0.25])
    step = Step(candidates=(CANDIDATE, CANDIDATE), documents=(0,))
    storage.set_study_system_attr(study._study_id, f"{STEP}00000", dict(step_to_json(step)))


def _rows(connection: psycopg.Connection[Any]) -> Iterator[str]:
    """INSERTs of every row in the order in which the tables were made, then where the sequences stand."""
    tables = connection.execute(
        "SELECT format('%%s.%%I', relnamespace::regnamespace, relname), array_agg(attname::text ORDER BY attnum) "
        "FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped "
        "WHERE relkind = 'r' AND relnamespace IN (%s::regnamespace, %s::regnamespace) GROUP BY c.oid ORDER BY c.oid",
        [OUR_SCHEMA, OPTUNA_SCHEMA],
    ).fetchall()
    for table, columns in tables:
        values = ", ".join(f'quote_nullable("{column}"::text)' for column in columns)
        for (row,) in connection.execute(f"SELECT concat_ws(', ', {values}) FROM {table}"):
            yield f"INSERT INTO {table} VALUES ({row});"
    sequences = "SELECT format('%I.%I', schemaname, sequencename), last_value FROM pg_sequences WHERE last_value > 0"
    for name, value in connection.execute(sequences):
        yield f"SELECT setval('{name}', {value});"


def _connected(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))


def main() -> None:
    """Print one dump."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", help="of our migrations, as 0003")
    sys.stdout.write(dump(parser.parse_args().revision))


if __name__ == "__main__":
    main()
