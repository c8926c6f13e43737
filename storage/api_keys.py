"""API keys: shown once, kept as scrypt hashes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence

import sqlalchemy as sa

from storage.ids import new_key_id
from storage.jobs import audit
from storage.jobs.leases import now
from storage.postgres.database import Database
from storage.postgres.retries import retried
from storage.postgres.tables import api_keys
from storage.records import SCOPES, ApiKey, Scope

RESERVED_OWNERS = ("*", "local", "nobody")
OPERATOR = "operator"  # who reaches the database
SECRET_BYTES = 32
SALT_BYTES = 16
MAX_TOKEN_LENGTH = 200

#: 16 MiB and some 30 ms per check: bearable per request, costly per guess.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 1

_NO_SALT = bytes(SALT_BYTES)
_NO_HASH = bytes(32)


class ApiKeys:
    """The API keys of one database. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retried(repeatable=False)
    def create(self, name: str, scopes: Sequence[Scope], owner: str | None = None) -> str:
        """A new key; the token "rw_<id>_<secret>" is returned here and never again. `owner`: whose jobs are submitted
        with it; None: its own.

        Raises:
            ValueError: no name, no scope or an unknown one, or an owner that stands for something else.
        """
        if owner is not None and (not owner or owner in RESERVED_OWNERS or owner.startswith("key:")):
            raise ValueError(f"an owner must be a name of its own, but got {owner!r}")
        if not name or not scopes or not set(scopes) <= set(SCOPES):
            raise ValueError(f"a key needs a name and scopes out of {SCOPES}, but got name={name!r}, scopes={scopes!r}")
        key_id, secret, salt = new_key_id(), secrets.token_urlsafe(SECRET_BYTES), secrets.token_bytes(SALT_BYTES)
        values = {
            "id": key_id,
            "name": name,
            "scopes": sorted(set(scopes), key=SCOPES.index),
            "salt": salt,
            "owner": owner,
        }
        with self._database.transaction() as connection:
            connection.execute(sa.insert(api_keys).values(**values, secret_hash=_hash(secret, salt)))
            audit.record(connection, OPERATOR, "key.created", f"key:{key_id}", scopes=" ".join(sorted(set(scopes))))
        return f"rw_{key_id}_{secret}"

    @retried()
    def verify(self, token: str) -> ApiKey | None:
        """The key of the token, or None when it is malformed, unknown, wrong or revoked.

        Every answer costs one scrypt and compares in constant time, so that none tells which of them it was.
        """
        key_id, secret = _parts(token)
        with self._database.transaction() as connection:
            row = connection.execute(sa.select(api_keys).where(api_keys.c.id == key_id)).one_or_none()
        salt, expected = (_NO_SALT, _NO_HASH) if row is None else (bytes(row.salt), bytes(row.secret_hash))
        right = hmac.compare_digest(_hash(secret, salt), expected)
        return _key(row) if right and row is not None and row.revoked_at is None else None

    @retried()
    def revoke(self, key_id: str) -> bool:
        """Whether there was a live key to revoke."""
        statement = sa.update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        with self._database.transaction() as connection:
            found = connection.execute(statement.values(revoked_at=now).returning(api_keys.c.id)).one_or_none()
            if found is not None:
                audit.record(connection, OPERATOR, "key.revoked", f"key:{key_id}")
        return found is not None

    @retried()
    def list(self) -> tuple[ApiKey, ...]:
        """Every key, oldest first."""
        with self._database.transaction() as connection:
            rows = connection.execute(sa.select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)).all()
        return tuple(_key(row) for row in rows)


def _hash(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, dklen=32)


def _parts(token: str) -> tuple[str, str]:
    """Id and secret; empty for what is no token, which then is checked in vain."""
    prefix, _, rest = token.partition("_")
    key_id, _, secret = rest.partition("_")
    well_formed = prefix == "rw" and len(token) <= MAX_TOKEN_LENGTH and token.isascii() and token.isprintable()
    return (key_id, secret) if well_formed else ("", "")


def _key(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=tuple(row.scopes),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        owner=row.owner or f"key:{row.id}",
    )
