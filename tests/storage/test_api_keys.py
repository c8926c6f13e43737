"""API keys: what is stored does not open anything."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from storage.api_keys import ApiKeys
from storage.postgres.database import Database


def test_a_token_opens_its_key_until_it_is_revoked(database: Database) -> None:
    keys = ApiKeys(database)
    token = keys.create("laptop", ["submit", "read"])
    assert token.startswith("rw_")
    key = keys.verify(token)
    assert key is not None
    assert (key.name, key.scopes) == ("laptop", ("read", "submit"))
    assert keys.list() == (key,)
    assert keys.revoke(key.id)
    assert keys.verify(token) is None
    assert not keys.revoke(key.id)
    assert keys.list()[0].revoked_at is not None


def test_secrets_with_underscores_are_read_whole(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_urlsafe", lambda size: "_a_b-c_")
    keys = ApiKeys(database)
    assert keys.verify(keys.create("n", ["read"])) is not None


def test_wrong_tokens_open_nothing(database: Database) -> None:
    keys = ApiKeys(database)
    token = keys.create("laptop", ["read"])
    other = keys.create("other", ["admin"])
    prefix, key_id, secret = token.split("_", 2)
    wrong = [
        "",
        "rw",
        "rw__",
        token[:-1],
        token + "x",
        f"{prefix}_{other.split('_')[1]}_{secret}",
        f"xx_{key_id}_{secret}",
    ]
    for nonsense in [*wrong, "rw_" + "a" * 10_000, "rw_\0_\0", "rw_ü_ü", secret]:
        assert keys.verify(nonsense) is None, nonsense


def test_neither_secret_nor_anything_that_yields_it_is_stored(database: Database) -> None:
    token = ApiKeys(database).create("laptop", ["read"])
    with database.engine.begin() as connection:
        row = connection.execute(sa.text("SELECT t::text FROM ropewalk.api_keys t")).scalar_one()
    assert token.split("_", 2)[2] not in row
    assert token.split("_", 2)[2].encode().hex() not in row


def test_bad_names_and_scopes_are_refused(database: Database) -> None:
    keys = ApiKeys(database)
    for name, scopes in (("", ["read"]), ("n", []), ("n", ["root"])):
        with pytest.raises(ValueError, match="scopes"):
            keys.create(name, scopes)  # type: ignore[arg-type]
