"""What users do with their webhooks."""

from __future__ import annotations

from collections.abc import Sequence

from ropewalk.wire.kinds import JobState
from service.webhooks.addresses import Network, check_url
from service.webhooks.message import shown_secret
from storage.deliveries import Delivery, Webhook
from storage.postgres.database import Database
from storage.webhooks import Webhooks


class WebhookDesk:
    """Thread-safe. `owner` None: whoever may see all of them."""

    def __init__(self, database: Database, *, allowed: Sequence[Network]) -> None:
        self._webhooks = Webhooks(database)
        self._allowed = allowed

    def create(self, owner: str, url: str, states: Sequence[JobState], *, every_job: bool) -> tuple[Webhook, str]:
        """A webhook with its secret, which nobody is shown again.

        Raises:
            AddressNotAllowed, TooManyWebhooks.
        """
        check_url(url, allowed=self._allowed)
        webhook, secret = self._webhooks.create(owner, url, states, every_job=every_job)
        return webhook, shown_secret(secret)

    def all(self, owner: str | None) -> tuple[Webhook, ...]:
        """Those that are told something."""
        return self._webhooks.list(owner)

    def get(self, webhook_id: str, owner: str | None) -> Webhook:
        """One, ended or not. Raises: WebhookNotFound."""
        return self._webhooks.get(webhook_id, owner)

    def end(self, webhook_id: str, owner: str | None, *, actor: str) -> Webhook:
        """Tell it nothing any more. Raises: WebhookNotFound."""
        return self._webhooks.end(webhook_id, owner, actor=actor)

    def deliveries(self, webhook_id: str, owner: str | None) -> tuple[Delivery, ...]:
        """The last ones, newest first. Raises: WebhookNotFound."""
        return self._webhooks.deliveries(webhook_id, owner)
