"""Where changes of jobs' states are told, and what became of each. The deliveries themselves are made by a trigger, in
the transaction that changes a state (`migrations/versions/v0007_webhooks.py`)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ropewalk.wire.kinds import JobState
from storage.deliveries import Delivery, Due, Webhook
from storage.errors import TooManyWebhooks, WebhookNotFound
from storage.ids import new_webhook_id
from storage.jobs import audit
from storage.jobs.leases import now, seconds_from_now
from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.postgres.tables import deliveries, jobs, webhooks

SECRET_BYTES = 32
MOST_PER_OWNER = 20
MOST_DELIVERIES = 200  # that are listed

_OLD = sa.text("DELETE FROM ropewalk.deliveries WHERE ended_at < clock_timestamp() - make_interval(secs => :seconds)")


class Webhooks:
    """The webhooks of one database. Thread-safe. `owner` None: whoever may see and end all of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retried(repeatable=False)
    def create(self, owner: str, url: str, states: Sequence[JobState], *, every_job: bool) -> tuple[Webhook, bytes]:
        """A new one with its secret, which is returned here and never again.

        Raises:
            TooManyWebhooks.
        """
        secret = secrets.token_bytes(SECRET_BYTES)
        values = {"id": new_webhook_id(), "owner": owner, "every_job": every_job, "url": url, "secret": secret}
        living = sa.select(sa.func.count()).where(webhooks.c.owner == owner, webhooks.c.ended_at.is_(None))
        with self._database.transaction() as connection:
            if connection.execute(living).scalar_one() >= MOST_PER_OWNER:
                raise TooManyWebhooks(
                    f"an owner has at most {MOST_PER_OWNER} webhooks, but {owner} has as many: end one"
                )
            statement = sa.insert(webhooks).values(**values, states=[state.value for state in dict.fromkeys(states)])
            row = connection.execute(statement.returning(*webhooks.c)).one()
            audit.record(connection, owner, "webhook.created", row.id)
        return _webhook(row), secret

    @retried()
    def list(self, owner: str | None) -> tuple[Webhook, ...]:
        """Those that are told something, oldest first."""
        query = sa.select(webhooks).where(webhooks.c.ended_at.is_(None), *_of(owner)).order_by(webhooks.c.created_at)
        with self._database.transaction() as connection:
            return tuple(_webhook(row) for row in connection.execute(query))

    @retried()
    def get(self, webhook_id: str, owner: str | None) -> Webhook:
        """One, ended or not. Raises: WebhookNotFound."""
        query = sa.select(webhooks).where(webhooks.c.id == webhook_id, *_of(owner))
        with self._database.transaction() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise _not_found(webhook_id)
        return _webhook(row)

    @retried()
    def end(self, webhook_id: str, owner: str | None, *, actor: str) -> Webhook:
        """Tell it nothing any more, what is under way neither; what was told stays listed. Raises: WebhookNotFound."""
        statement = sa.update(webhooks).where(webhooks.c.id == webhook_id, *_of(owner))
        statement = statement.values(ended_at=sa.func.coalesce(webhooks.c.ended_at, now)).returning(*webhooks.c)
        waiting = sa.update(deliveries).where(deliveries.c.webhook_id == webhook_id, deliveries.c.ended_at.is_(None))
        with self._database.transaction() as connection:
            row = connection.execute(statement).one_or_none()
            if row is None:
                raise _not_found(webhook_id)
            connection.execute(waiting.values(due_at=None, ended_at=now, delivered=False, reason="the webhook ended"))
            audit.record(connection, actor, "webhook.ended", webhook_id)
        return _webhook(row)

    @retried()
    def deliveries(self, webhook_id: str, owner: str | None) -> tuple[Delivery, ...]:
        """The last ones, newest first. Raises: WebhookNotFound."""
        self.get(webhook_id, owner)
        query = sa.select(deliveries).where(deliveries.c.webhook_id == webhook_id)
        query = query.order_by(deliveries.c.id.desc()).limit(MOST_DELIVERIES)
        with self._database.transaction() as connection:
            return tuple(_delivery(row) for row in connection.execute(query))

    @retried(repeatable=False)
    def claim(self, *, limit: int, seconds: float) -> tuple[Due, ...]:
        """Deliveries that are due, oldest first, put off by `seconds`: so long nobody else makes them."""
        due = sa.select(deliveries.c.id).where(deliveries.c.ended_at.is_(None), deliveries.c.due_at <= now)
        due = due.order_by(deliveries.c.due_at).limit(limit).with_for_update(skip_locked=True)
        chosen = due.cte("due")
        statement = (
            sa.update(deliveries)
            .where(deliveries.c.id.in_(sa.select(chosen.c.id)))
            .values(due_at=seconds_from_now(seconds), attempts=deliveries.c.attempts + 1)
            .returning(deliveries.c.id)
        )
        with self._database.transaction() as connection:
            ids = connection.execute(statement).scalars().all()
            query = (
                sa.select(deliveries, webhooks.c.url, webhooks.c.secret, jobs.c.kind, jobs.c.labels, jobs.c.error_code)
                .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
                .join(jobs, jobs.c.id == deliveries.c.job_id)
                .where(deliveries.c.id.in_(ids))
                .order_by(deliveries.c.id)
            )
            return tuple(_due(row) for row in connection.execute(query)) if ids else ()

    @retried()
    def settle(
        self, due: Due, *, delivered: bool, status: int | None, reason: str | None, retry_in: float | None = None
    ) -> None:
        """How an attempt went; `retry_in` None: it was the last. Nothing where the webhook has ended meanwhile."""
        ended: Mapping[str, Any] = {"due_at": None, "ended_at": now, "delivered": delivered}
        again = {"due_at": None if retry_in is None else seconds_from_now(retry_in)}
        statement = sa.update(deliveries).where(deliveries.c.id == due.delivery.id, deliveries.c.ended_at.is_(None))
        values = ended if retry_in is None else again
        with self._database.transaction() as connection:
            connection.execute(statement.values(status=status, reason=reason, **values))

    @retried()
    def forget(self, *, seconds: float) -> None:
        """Delete what was told longer ago."""
        with self._database.transaction() as connection:
            connection.execute(_OLD, {"seconds": seconds})


def _of(owner: str | None) -> tuple[sa.ColumnElement[bool], ...]:
    return () if owner is None else (webhooks.c.owner == owner,)


def _not_found(webhook_id: str) -> WebhookNotFound:
    return WebhookNotFound(f"a webhook must exist and be your own, but there is no {webhook_id!r}")


def _webhook(row: sa.Row[Any]) -> Webhook:
    return Webhook(
        id=row.id,
        owner=row.owner,
        every_job=row.every_job,
        url=row.url,
        states=tuple(JobState(state) for state in row.states),
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def _delivery(row: sa.Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        webhook_id=row.webhook_id,
        job_id=row.job_id,
        event_id=row.event_id,
        state=JobState(row.state),
        previous_state=None if row.previous_state is None else JobState(row.previous_state),
        attempts=row.attempts,
        due_at=row.due_at,
        delivered=row.delivered,
        status=row.status,
        reason=row.reason,
        created_at=row.created_at,
    )


def _due(row: sa.Row[Any]) -> Due:
    return Due(
        delivery=_delivery(row),
        url=row.url,
        secret=bytes(row.secret),
        kind=row.kind,
        labels=tuple(sorted(row.labels.items())),
        error_code=row.error_code,
    )
