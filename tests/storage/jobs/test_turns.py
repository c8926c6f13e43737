"""Whose turn it is: priorities, a fair share for each owner, and nobody gets more than it may have."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ropewalk.wire.kinds import JobState
from storage.jobs.statistics import read_statistics
from storage.jobs.store import JobStore
from storage.limits import OwnerLimits
from storage.postgres.database import Database
from storage.postgres.tables import EVERY_KEY
from storage.records import Limits, Scheduling
from tests.helpers.leases import expire_lease


def made(store: JobStore, owner: str | None, *, priority: int = 0, workers: int = 1) -> str:
    return store.create("search", "{}", creator=owner, scheduling=Scheduling(priority=priority, workers=workers)).job.id


def claimed(store: JobStore, count: int, owner: str = "c") -> list[str]:
    found = [store.claim(owner, 60) for _ in range(count)]
    return [one[0].id for one in found if one is not None]


def test_of_one_owner_the_oldest_comes_first(store: JobStore) -> None:
    jobs = [made(store, "key:a") for _ in range(4)]
    assert claimed(store, 5) == jobs


def test_a_greater_priority_comes_first(store: JobStore) -> None:
    low, plain, high = (made(store, "key:a", priority=priority) for priority in (-5, 0, 7))
    late = made(store, "key:b", priority=0)
    store.prioritize(late, 9, actor="boss")
    assert claimed(store, 5) == [late, high, plain, low]


def test_owners_take_turns(store: JobStore) -> None:
    """One who submits many jobs at once keeps nobody waiting behind all of them."""
    many = [made(store, "key:a") for _ in range(5)]
    few = [made(store, "key:b") for _ in range(2)]
    nobodys = made(store, None)
    assert claimed(store, 8) == [many[0], few[0], nobodys, many[1], few[1], *many[2:]]


def test_running_jobs_are_limited(store: JobStore, database: Database) -> None:
    limits = OwnerLimits(database)
    limits.set("key:a", Limits(running_jobs=2), actor="operator")
    jobs = [made(store, "key:a") for _ in range(4)]
    other = made(store, "key:b")
    assert claimed(store, 5) == [jobs[0], other, jobs[1]]
    expire_lease(database, jobs[0])
    assert claimed(store, 3, "d") == [jobs[0]], "a job whose controller died counts no more, and is taken over"
    limits.set("key:a", Limits(), actor="operator")
    assert claimed(store, 3) == jobs[2:]


def test_workers_are_limited(store: JobStore, database: Database) -> None:
    OwnerLimits(database).set("key:a", Limits(workers=5), actor="operator")
    three, four, two = (made(store, "key:a", workers=count) for count in (3, 4, 2))
    assert read_statistics(database).waiting["search"].jobs == 3
    assert claimed(store, 3) == [three, two], "what fits goes before what does not"
    assert "search" not in read_statistics(database).waiting, (
        "it waits for its owner's other jobs, not for a controller"
    )
    assert store.get(four).state is JobState.queued
    assert four not in claimed(store, 1)


def test_keys_without_limits_of_their_own_have_the_default_ones(store: JobStore, database: Database) -> None:
    limits = OwnerLimits(database)
    limits.set(EVERY_KEY, Limits(running_jobs=1, stored_bytes=7), actor="operator")
    limits.set("key:big", Limits(running_jobs=2), actor="operator")
    assert limits.of("key:a") == Limits(running_jobs=1, stored_bytes=7)
    assert limits.of("key:big") == Limits(running_jobs=2), "its own replace them"
    assert limits.of("local") == Limits()
    jobs = {owner: [made(store, owner) for _ in range(3)] for owner in ("key:a", "key:big", "local")}
    assert sorted(claimed(store, 9)) == sorted([*jobs["key:a"][:1], *jobs["key:big"][:2], *jobs["local"]])


def test_what_only_has_to_end_needs_no_room(store: JobStore, database: Database) -> None:
    OwnerLimits(database).set("key:a", Limits(running_jobs=1), actor="operator")
    first = made(store, "key:a")
    lease = store.claim("c", 60)
    assert lease is not None
    store.transition(lease[1], JobState.preparing)
    store.release(lease[1])
    store.request(first, "cancel")
    second = made(store, "key:a", priority=50)
    assert claimed(store, 2) == [first], "it is ended first, by whoever looks, and counts while somebody ends it"
    assert store.get(second).state is JobState.queued


@pytest.mark.slow
def test_many_controllers_at_once_keep_to_the_limit(database: Database) -> None:
    store, limits = JobStore(database), OwnerLimits(database)
    limits.set("key:a", Limits(running_jobs=3, workers=7), actor="operator")
    for _ in range(40):
        made(store, "key:a", workers=2)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: store.claim(f"c{number}", 60), range(64)))
    assert sum(one is not None for one in found) == 3


def test_a_fine_tuning_has_its_searchs_owner_and_priority(store: JobStore) -> None:
    job = made(store, "key:a", priority=-3)
    found = store.claim("c", 60)
    assert found is not None
    for state in (JobState.preparing, JobState.searching, JobState.validating):
        store.transition(found[1], state)
    child = store.hand_off(found[1], "{}", "{}", workers=4)
    assert (child.owner, child.priority, child.parent_id) == ("key:a", -3, job)
    assert [one.id for one in store.list("finetune", owner="key:a").items] == [child.id]
    assert store.list("finetune", owner="key:b").items == ()


def test_page_tokens_are_of_their_owner(store: JobStore) -> None:
    jobs = [made(store, "key:a") for _ in range(3)]
    made(store, "key:b")
    page = store.list("search", owner="key:a", limit=2)
    rest = store.list("search", owner="key:a", limit=2, page_token=page.next_page_token)
    assert [job.id for job in (*page.items, *rest.items)] == jobs[::-1]
    with pytest.raises(ValueError, match="filters"):
        store.list("search", owner="key:b", page_token=page.next_page_token)


def test_limits_are_numbers_that_make_sense() -> None:
    for wrong in ({"running_jobs": 0}, {"workers": -1}, {"stored_bytes": -1}):
        with pytest.raises(ValueError, match="must be at least"):
            Limits(**wrong)
