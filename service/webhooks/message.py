"""What is sent: a JSON object, signed as Standard Webhooks (https://www.standardwebhooks.com) says, so that the
libraries which check such signatures check ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass

from ropewalk.version import ROPEWALK_VERSION
from storage.deliveries import Due

PREFIX = "whsec_"


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """The body and the headers of one attempt."""

    body: bytes
    headers: dict[str, str]


def message_of(due: Due, *, timestamp: int) -> Message:
    """An attempt at `timestamp` (Unix seconds). All attempts of a delivery have one `webhook-id`."""
    delivery = due.delivery
    content = {
        "type": f"{due.kind}.{delivery.state}",
        "timestamp": delivery.created_at.isoformat(),
        "data": {
            "id": delivery.job_id,
            "kind": due.kind,
            "state": delivery.state,
            "previous_state": delivery.previous_state,
            "event_id": delivery.event_id,
            "labels": dict(due.labels),
            "error_code": due.error_code if delivery.state == "failed" else None,
        },
    }
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    message_id = f"msg_{due.delivery.webhook_id}_{delivery.id}"
    return Message(
        body=body,
        headers={
            "content-type": "application/json",
            "user-agent": f"ropewalk/{ROPEWALK_VERSION}",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(due.secret, message_id, timestamp, body),
        },
    )


def signature(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Standard Webhooks' symmetric signature, version 1: HMAC-SHA256 of "id.timestamp.body", base64."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return f"v1,{base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()}"


def shown_secret(secret: bytes) -> str:
    """The secret as libraries for Standard Webhooks take it."""
    return f"{PREFIX}{base64.b64encode(secret).decode()}"
