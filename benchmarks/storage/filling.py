"""A database as large as a busy team's: one search by the real code, the others copied from its rows.

The controller writes one search whole (:func:`benchmarks.storage.scoring.run_search_here`); what it left in every table
is then inserted again under new ids, in PostgreSQL itself, so that the copies are rows as the stores write them.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import sql

from storage.ids import new_job_id
from storage.postgres.database import Database

#: Rows of a search by table, the referenced before those that refer to them, and how they are found.
_OF_STUDY = "study_id = %(study)s"
_OF_TRIALS = "trial_id IN (SELECT trial_id FROM optuna.trials WHERE study_id = %(study)s)"
_OF_JOB = "job_id = %(job)s"
TABLES: Mapping[str, str] = {
    "ropewalk.jobs": "id = %(job)s",
    "ropewalk.events": _OF_JOB,
    "ropewalk.document_scores": _OF_JOB,
    "optuna.studies": _OF_STUDY,
    "optuna.study_directions": _OF_STUDY,
    "optuna.study_user_attributes": _OF_STUDY,
    "optuna.study_system_attributes": _OF_STUDY,
    "optuna.trials": _OF_STUDY,
    "optuna.trial_values": _OF_TRIALS,
    "optuna.trial_intermediate_values": _OF_TRIALS,
    "optuna.trial_params": _OF_TRIALS,
    "optuna.trial_user_attributes": _OF_TRIALS,
    "optuna.trial_system_attributes": _OF_TRIALS,
}
#: What a copy has instead. The score cache is by content: it has as many entries as there are scores.
REPLACED = {
    "job_id": "%(new_job)s",
    "study_name": "%(new_job)s",
    "study_id": "study_id + %(studies)s",
    "trial_id": "trial_id + %(trials)s",
}
_CACHE = """
    INSERT INTO ropewalk.score_cache (key, nats, tokens, exact)
    SELECT sha256(convert_to(document_id || trial || %(new_job)s, 'UTF8')), nats, tokens, exact
    FROM ropewalk.document_scores WHERE job_id = %(job)s
"""
_SEQUENCES = """
    SELECT setval('optuna.studies_study_id_seq', (SELECT max(study_id) FROM optuna.studies)),
           setval('optuna.trials_trial_id_seq', (SELECT max(trial_id) FROM optuna.trials))
"""


def copy_search(database: Database, job_id: str, *, copies: int) -> None:
    """Insert everything about a finished search `copies` times. Nobody else may be making studies meanwhile."""
    engine = database.engine
    with psycopg.connect(**engine.dialect.create_connect_args(engine.url)[1]) as connection:
        # Copies of rows that meet the constraints meet them, too; the disk need not confirm each copy.
        connection.execute("SET session_replication_role = replica; SET synchronous_commit = off")
        statements = [_insert(connection, table, where) for table, where in TABLES.items()]
        statements.append(sql.SQL(_CACHE).format())
        study, last_study, trials = connection.execute(
            "SELECT study_id, (SELECT max(study_id) FROM optuna.studies), "
            "(SELECT max(trial_id) FROM optuna.trials) FROM optuna.studies WHERE study_name = %s",
            [job_id],
        ).fetchone() or (0, 0, 0)
        for copy in range(1, copies + 1):
            given = {"job": job_id, "new_job": new_job_id("search"), "study": study}
            given |= {"studies": last_study * copy, "trials": trials * copy}
            for statement in statements:
                connection.execute(statement, given)
            connection.commit()
        connection.execute(_SEQUENCES)
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM (ANALYZE)")


def _insert(connection: psycopg.Connection[tuple[object, ...]], table: str, where: str) -> sql.Composed:
    """The statement that copies the rows of `table`; a serial number of their own is given anew."""
    found = connection.execute(
        "SELECT attname, pg_get_serial_sequence(%(table)s, attname) IS NOT NULL FROM pg_attribute "
        "WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        {"table": table},
    ).fetchall()
    columns = [str(name) for name, is_serial in found if not is_serial or name in REPLACED]
    values = [
        sql.SQL("%(new_job)s" if (table, name) == ("ropewalk.jobs", "id") else REPLACED[name])
        if name in REPLACED or (table, name) == ("ropewalk.jobs", "id")
        else sql.Identifier(name)
        for name in columns
    ]
    schema, name = table.split(".")
    return sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} WHERE {}").format(
        sql.Identifier(schema, name),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(values),
        sql.Identifier(schema, name),
        sql.SQL(where),
    )
