"""API keys: made and revoked where the database is, never over HTTP."""

from typing import Annotated, get_args

import typer
from rich.table import Table

from api.commands import common
from api.console import err, note, print_json, print_line, print_table
from api.settings import load_settings
from ropewalk.client.errors import BadInput
from storage.records import Scope

KNOWN_SCOPES: tuple[Scope, ...] = get_args(Scope)
DEFAULT_SCOPES: tuple[Scope, ...] = ("read", "submit")

_FIRST = (
    "this is the only key: a running server needs one for every request from now on, except from who has the token in "
    "its ROPEWALK_HOME and reaches it on loopback."
)
_NARROW = " It has scope {} alone, so that nobody else could both submit and read."

keys_app = typer.Typer(help="Manage API keys in the server's database.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keys_app.command("create")(create)
    keys_app.command("list")(list_keys)
    keys_app.command("revoke")(revoke)
    app.add_typer(keys_app, name="keys")


def create(
    name: Annotated[str, typer.Argument(help="Who or what uses the key.")],
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="read, submit, admin; several times. Default: read, submit.")
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """Create a key. It is shown only once."""
    from api.databases import open_database
    from storage.api_keys import ApiKeys

    scopes = _scopes(scope)
    if not (name.strip() and name.isprintable()):
        raise BadInput(f"a key's name must be printable and not empty, but got {name!r}")
    with open_database(load_settings()) as database:
        keys = ApiKeys(database)
        is_first = all(key.revoked_at is not None for key in keys.list())
        token = keys.create(name, scopes)
    if is_first:
        note(
            _FIRST
            + ("" if set(scopes) >= {"read", "submit"} or "admin" in scopes else _NARROW.format(" ".join(scopes)))
        )
    if as_json:
        print_json({"token": token, "name": name, "scopes": list(scopes)})
        return
    print_line(token)
    err().print("This is the only time the key is shown. Clients send it with ROPEWALK_API_KEY.")


def _scopes(given: list[str] | None) -> tuple[Scope, ...]:
    known = {str(scope): scope for scope in KNOWN_SCOPES}
    for text in given or ():
        if text not in known:
            raise BadInput(f"--scope must be one of {', '.join(known)}, but got {text!r}")
    return tuple(known[text] for text in dict.fromkeys(given)) if given else DEFAULT_SCOPES


def list_keys(as_json: common.AsJson = False) -> None:
    """List the keys, without their secrets."""
    from api.databases import open_database
    from storage.api_keys import ApiKeys

    with open_database(load_settings()) as database:
        keys = ApiKeys(database).list()
    if as_json:
        rows = [
            {
                "id": key.id,
                "name": key.name,
                "scopes": list(key.scopes),
                "created_at": key.created_at.isoformat(),
                "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
            }
            for key in keys
        ]
        print_json({"items": rows})
        return
    table = Table("id", "name", "scopes", "created", "state")
    for key in keys:
        created = key.created_at.isoformat(timespec="seconds")
        table.add_row(key.id, key.name, " ".join(key.scopes), created, "revoked" if key.revoked_at else "active")
    print_table(table)


def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, from `keys list`.")],
    as_json: common.AsJson = False,
) -> None:
    """Revoke a key; running servers refuse it within half a minute."""
    from api.databases import open_database
    from storage.api_keys import ApiKeys

    with open_database(load_settings()) as database:
        if not (key_id.isascii() and ApiKeys(database).revoke(key_id)):
            raise BadInput(f"there must be an active key with this id, but got {key_id!r}")
    print_json({"id": key_id, "revoked": True}) if as_json else print_line(f"{key_id} revoked")
