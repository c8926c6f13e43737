"""Identifiers: a prefix that tells the kind, and 26 characters that sort by creation time."""

from __future__ import annotations

import secrets
import time

from ropewalk.wire.kinds import KINDS, JobKind

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32


def new_job_id(kind: JobKind) -> str:
    """E.g. "srch_01hf…": 48 bits of milliseconds, then 80 random bits (ULID)."""
    return f"{KINDS[kind].prefix}_{_base32((time.time_ns() // 1_000_000) << 80 | secrets.randbits(80), 26)}"


def new_key_id() -> str:
    """A short random identifier for an API key."""
    return _base32(secrets.randbits(50), 10)


def new_webhook_id() -> str:
    """A random identifier for a webhook."""
    return f"hook_{_base32(secrets.randbits(80), 16)}"


def _base32(number: int, length: int) -> str:
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(length)))
