"""Scores by content: put once, found by everyone, never changed, forgotten when an operator says so."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import sqlalchemy as sa

from evaluation.errors import InvalidScores
from ropewalk.wire.kinds import JobState
from storage.errors import DatabaseUnreachable
from storage.postgres.database import Database
from storage.records import Lease, StoredScore
from storage.scores import cache as score_cache
from storage.scores.acceptance import Acceptance, NewScore
from storage.scores.cache import CachedScore, ScoreCache
from tests.helpers.leases import ClaimedJob


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def entries(numbers: Iterable[int], *, nats: float = 0.1 + 0.2) -> dict[bytes, CachedScore]:
    return {key(n): CachedScore(nats=nats + n, tokens=7 + n, exact=n % 2 == 0) for n in numbers}


@pytest.fixture
def cache(database: Database) -> ScoreCache:
    return ScoreCache(database)


class Writer:
    """A search that accepts scores, which is where entries come from."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self._acceptance = Acceptance(database, lease)

    def __call__(self, new: Mapping[bytes, CachedScore]) -> None:
        stored = (
            (name, StoredScore(split="search", trial=0, score=one.about(name.hex()), worker="w"))
            for name, one in new.items()
        )
        self._acceptance.accept([NewScore(stored=one, index=0, cache_key=name) for name, one in stored])


@pytest.fixture
def put(database: Database, claimed_job: ClaimedJob) -> Writer:
    return Writer(database, claimed_job(JobState.searching))


def test_what_was_put_is_found_bit_for_bit_by_its_key_alone(cache: ScoreCache, put: Writer) -> None:
    put(entries(range(5)))
    assert cache.get([key(4), key(1), key(99), key(1)]) == entries([1, 4])
    assert cache.get([]) == {}


def test_the_first_entry_stays_and_its_neighbours_are_put(cache: ScoreCache, put: Writer) -> None:
    put(entries([1]))
    put(entries([0, 1, 2], nats=9.0))
    assert cache.get([key(0), key(1), key(2)]) == entries([1]) | entries([0, 2], nats=9.0)


def test_many_keys_are_asked_for_in_bounded_queries(
    cache: ScoreCache, database: Database, put: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_cache, "_KEYS_PER_QUERY", 4)
    put(entries(range(10)))
    sizes: list[int] = []
    sa.event.listen(
        database.engine,
        "before_cursor_execute",
        lambda _connection, _cursor, _text, parameters, _context, _many: sizes.append(len(parameters["keys"])),
    )
    assert cache.get([key(n) for n in range(10)]) == entries(range(10))
    assert sizes == [4, 4, 2]


def test_writers_of_the_same_keys_in_opposite_orders_do_not_lock_each_other_out(
    cache: ScoreCache, database: Database, claimed_job: ClaimedJob
) -> None:
    writers = [Writer(database, claimed_job(JobState.searching)) for _ in range(2)]
    barrier = Barrier(2)

    def wait_and_put(put: Writer, numbers: Iterable[int]) -> None:
        new = entries(numbers)
        barrier.wait(timeout=30)
        put(new)

    count = 3000  # enough that each holds rows which the other wants next
    with ThreadPoolExecutor(2) as pool:
        orders = (range(count), reversed(range(count)))
        for done in [pool.submit(wait_and_put, *given) for given in zip(writers, orders, strict=True)]:
            done.result(timeout=60)
    assert len(cache.get([key(n) for n in range(count)])) == count


@pytest.mark.parametrize("forget", ["DELETE FROM {} WHERE created_at < clock_timestamp()", "TRUNCATE {}"])
def test_entries_may_be_forgotten_but_not_changed(
    forget: str, cache: ScoreCache, put: Writer, database: Database
) -> None:
    put(entries(range(3)))
    with pytest.raises(sa.exc.IntegrityError, match="got UPDATE"), database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE ropewalk.score_cache SET nats = 1"))
    assert cache.get([key(1)]) == entries([1])
    with database.engine.begin() as connection:
        connection.execute(sa.text(forget.format("ropewalk.score_cache")))
    assert cache.get([key(1)]) == {}


@pytest.mark.parametrize("changes", [{"nats": math.nan}, {"nats": math.inf}, {"nats": -1.0}, {"tokens": 0}])
def test_what_is_no_score_is_refused(changes: dict[str, float], database: Database) -> None:
    """By the value, and by the database from those who go around it."""
    values = {"nats": 1.0, "tokens": 7} | changes
    with pytest.raises(InvalidScores):
        CachedScore(nats=values["nats"], tokens=int(values["tokens"]), exact=True)
    with pytest.raises(sa.exc.IntegrityError, match=f"ck_score_cache_{next(iter(changes))}"):
        insert(database, key(0), values)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_has_32_bytes(size: int, database: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="ck_score_cache_key"):
        insert(database, bytes(size), {"nats": 1.0, "tokens": 7})


def insert(database: Database, name: bytes, values: dict[str, float]) -> None:
    statement = "INSERT INTO ropewalk.score_cache (key, nats, tokens, exact) VALUES (:key, :nats, :tokens, true)"
    with database.engine.begin() as connection:
        connection.execute(sa.text(statement), {"key": name} | values)


def test_a_database_that_is_gone_is_told_as_elsewhere() -> None:
    gone = ScoreCache(Database("postgresql://me@127.0.0.1:1/db"))
    with pytest.raises(DatabaseUnreachable):
        gone.get([key(0)])
