"""Optuna's storage in schema `optuna` of our database, on our pool."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import distribution_to_json
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from storage.optuna_tables.reading import ColumnReadingStorage

OnBegin = Callable[[sa.Connection], None]
"""What every transaction of a storage starts with; an error that it raises ends the transaction without a trace."""


def upgrade_tables(engine: sa.Engine, schema: str) -> None:
    """Make or upgrade Optuna's tables in `schema`, into which `engine`'s sessions look first."""
    storage = RDBStorage(_optuna_url(_with_path(engine.url, schema)), _options(engine), skip_compatibility_check=True)
    if storage.get_current_version() != storage.get_head_version():
        _keep_logging_as_it_is()
        storage.upgrade()


def open_storage(engine: sa.Engine) -> RDBStorage:
    """Optuna's storage on `engine`, whose tables exist."""
    # At INFO every finished trial would cost a query for the best one.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = ColumnReadingStorage(
        _optuna_url(engine.url), _options(engine), skip_compatibility_check=True, skip_table_creation=True
    )
    _use_engine(storage, engine)
    return storage


def with_cache(storage: RDBStorage) -> BaseStorage:
    """`storage` with Optuna's cache of finished trials."""
    return get_storage(storage)


def fenced(storage: RDBStorage, on_begin: OnBegin) -> RDBStorage:
    """A twin of `storage` on the same pool, each of whose transactions starts with `on_begin`."""
    twin = object.__new__(RDBStorage)
    twin.__dict__.update(storage.__dict__)
    sessions = _use_engine(twin, storage.engine)

    @event.listens_for(sessions, "after_begin")
    def _begin(session: Session, transaction: object, connection: sa.Connection) -> None:
        on_begin(connection)

    return twin


def add_waiting_trials(storage: RDBStorage, study_id: int, trials: Sequence[FrozenTrial]) -> None:
    """What `Study.add_trial` does with each of `trials`, in order, but with all of them in one transaction.

    One `add_trial` takes some 130 queries and 70 inserts for 64 parameters; this takes seven statements, and a
    generation is there as a whole or not at all. A test holds the two against each other.
    """
    with storage.scoped_session() as session, session.begin():
        # Optuna's own lock on a study's trial numbers.
        models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)
        known = sa.select(sa.func.count()).select_from(models.TrialModel).filter_by(study_id=study_id)
        first = session.execute(known).scalar_one()
        ids = _insert_trials(session, study_id, range(first, first + len(trials)))
        for model, rows in _details(zip(ids, trials, strict=True)).items():
            if rows:
                session.execute(sa.insert(model), rows)


def replace_system_attributes(storage: RDBStorage, study_id: int, prefix: str, values: Mapping[str, str]) -> None:
    """Make `values` all of the study's system attributes that start with `prefix`, in one transaction.

    `Study.set_system_attr` takes a transaction each, and readers in between see a mixture of the old and the new.
    """
    attributes = models.StudySystemAttributeModel.__table__
    ours = sa.and_(attributes.c.study_id == study_id, attributes.c.key.startswith(prefix, autoescape=True))
    rows = [{"study_id": study_id, "key": key, "value_json": json.dumps(value)} for key, value in values.items()]
    with storage.scoped_session() as session, session.begin():
        models.StudyModel.find_or_raise_by_id(study_id, session, for_update=True)  # one replacement at a time
        session.execute(sa.delete(attributes).where(ours))
        if rows:
            session.execute(sa.insert(attributes), rows)


def _insert_trials(session: Session, study_id: int, numbers: Iterable[int]) -> list[int]:
    """The trial ids by number."""
    rows = [{"study_id": study_id, "number": number, "state": TrialState.WAITING} for number in numbers]
    trials = models.TrialModel.__table__
    inserted = session.execute(sa.insert(trials).values(rows).returning(trials.c.number, trials.c.trial_id))
    return [trial_id for _, trial_id in sorted((row.number, row.trial_id) for row in inserted)]


def _details(trials: Iterable[tuple[int, FrozenTrial]]) -> dict[sa.Table, list[dict[str, object]]]:
    """The rows beside the trials' own, by table."""
    params: list[dict[str, object]] = []
    user: list[dict[str, object]] = []
    system: list[dict[str, object]] = []
    for trial_id, trial in trials:
        for name, distribution in trial.distributions.items():
            params.append(
                {
                    "trial_id": trial_id,
                    "param_name": name,
                    "param_value": distribution.to_internal_repr(trial.params[name]),
                    "distribution_json": distribution_to_json(distribution),
                }
            )
        for rows, attributes in ((user, trial.user_attrs), (system, trial.system_attrs)):
            rows.extend(
                {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)} for key, value in attributes.items()
            )
    return {
        models.TrialParamModel.__table__: params,
        models.TrialUserAttributeModel.__table__: user,
        models.TrialSystemAttributeModel.__table__: system,
    }


def _use_engine(storage: RDBStorage, engine: sa.Engine) -> sessionmaker[Session]:
    """Put the storage's sessions on `engine`: one bounded pool per process, for Optuna's tables too."""
    sessions = sessionmaker(bind=engine)
    storage.engine = engine
    storage.scoped_session = scoped_session(sessions)
    return sessions


def _options(engine: sa.Engine) -> dict[str, Any]:
    """Of an engine that Optuna makes for itself: sessions as `engine`'s, none kept."""
    return {"poolclass": NullPool, "hide_parameters": True, "creator": lambda: _session_of(engine)}


def _session_of(engine: sa.Engine) -> DBAPIConnection:
    """A session of its own, made as the pool makes them."""
    record = engine.raw_connection()
    record.detach()
    assert record.dbapi_connection is not None
    return record.dbapi_connection


def _with_path(url: sa.URL, schema: str) -> sa.URL:
    """For Optuna's own migrations, which connect by the URL alone."""
    return url.update_query_dict({"options": f"-c timezone=UTC -c search_path={schema}"}, append=True)


def _optuna_url(url: sa.URL) -> str:
    """Optuna passes its URL through `str.format`."""
    return url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")


def _keep_logging_as_it_is() -> None:
    """Optuna's migration script configures logging, and silences our loggers, unless there is a handler."""
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(logging.NullHandler())
