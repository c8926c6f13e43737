"""API keys and the limits of their owners: where the database is, never over HTTP."""

from dataclasses import asdict
from typing import Annotated, get_args

import typer
from rich.table import Table

from api.commands import common
from api.console import err, note, print_json, print_line, print_table
from api.settings import load_settings
from ropewalk.client.errors import BadInput
from ropewalk.reading.sizes import bytes_of
from storage.records import Scope

KNOWN_SCOPES: tuple[Scope, ...] = get_args(Scope)
SCOPE_HELP = "read, submit: all jobs; own: one's own jobs alone; admin; several times. Default: read, submit."
DEFAULT_SCOPES: tuple[Scope, ...] = ("read", "submit")

#: By their names here: all other owners are keys.
_OWNERS = {"default": "*", "local": "local"}
RESERVED = ("*", "default", "local", "nobody")

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
    keys_app.command("limit")(limit)
    keys_app.command("limits")(list_limits)
    app.add_typer(keys_app, name="keys")


def create(
    name: Annotated[str, typer.Argument(help="Who or what uses the key.")],
    scope: Annotated[list[str] | None, typer.Option("--scope", help=SCOPE_HELP)] = None,
    owner: Annotated[
        str | None, typer.Option(help="Whose jobs are submitted with it: keys may share an owner. Default: its own.")
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """Create a key. It is shown only once."""
    from api.databases import open_database
    from storage.api_keys import ApiKeys

    scopes = _scopes(scope)
    if not (name.strip() and name.isprintable()):
        raise BadInput(f"a key's name must be printable and not empty, but got {name!r}")
    if owner is not None and (not (owner.strip() and owner.isprintable()) or ":" in owner or owner in RESERVED):
        raise BadInput(
            f"an owner must be a printable name without :, and none of {', '.join(RESERVED)}, but got {owner!r}"
        )
    with open_database(load_settings()) as database:
        keys = ApiKeys(database)
        is_first = all(key.revoked_at is not None for key in keys.list())
        token = keys.create(name, scopes, owner)
    if is_first:
        can_do_both = set(scopes) >= {"read", "submit"} or not {"admin", "own"}.isdisjoint(scopes)
        note(_FIRST + ("" if can_do_both else _NARROW.format(" ".join(scopes))))
    if as_json:
        print_json(
            {"token": token, "name": name, "scopes": list(scopes), "owner": owner or f"key:{token.split('_')[1]}"}
        )
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
                "owner": key.owner,
                "created_at": key.created_at.isoformat(),
                "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
            }
            for key in keys
        ]
        print_json({"items": rows})
        return
    table = Table("id", "name", "scopes", "owner", "created", "state")
    for key in keys:
        created = key.created_at.isoformat(timespec="seconds")
        table.add_row(
            key.id, key.name, " ".join(key.scopes), key.owner, created, "revoked" if key.revoked_at else "active"
        )
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


def limit(
    owner: Annotated[
        str,
        typer.Argument(metavar="ID", help="A key's id; default: keys without limits of their own; local: the token."),
    ],
    jobs: Annotated[int | None, typer.Option(min=1, help="Jobs at work at once.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Workers of jobs at work.")] = None,
    stored: Annotated[str | None, typer.Option("--bytes", metavar="SIZE", help="Files of its jobs, as 100G.")] = None,
    as_json: common.AsJson = False,
) -> None:
    """Limit what a key's jobs may have at once, in place of the limits of before; without options there are none."""
    from api.databases import open_database
    from storage.api_keys import OPERATOR, ApiKeys
    from storage.limits import OwnerLimits
    from storage.records import Limits

    limits = Limits(running_jobs=jobs, workers=workers, stored_bytes=_bytes(stored))
    with open_database(load_settings()) as database:
        known = {name: key.owner for key in ApiKeys(database).list() for name in (key.owner, key.id)} | _OWNERS
        if owner not in known:
            raise BadInput(f"limits are for a key's id or owner, default or local, but got {owner!r}")
        OwnerLimits(database).set(known[owner], limits, actor=OPERATOR)
    if as_json:
        print_json({"owner": owner, "running_jobs": jobs, "workers": workers, "stored_bytes": limits.stored_bytes})
    else:
        print_line(f"{owner}: {_shown(jobs)} jobs, {_shown(workers)} workers, {_shown(limits.stored_bytes)} bytes")


def _bytes(text: str | None) -> int | None:
    try:
        return None if text is None else bytes_of(text)
    except ValueError as error:
        raise BadInput(f"--bytes: {error}") from None


def _shown(value: int | None) -> str:
    return "any number of" if value is None else str(value)


def list_limits(as_json: common.AsJson = False) -> None:
    """List the limits."""
    from api.databases import open_database
    from storage.limits import OwnerLimits

    names = {owner: name for name, owner in _OWNERS.items()}
    with open_database(load_settings()) as database:
        found = {names.get(owner, owner): one for owner, one in OwnerLimits(database).all().items()}
    if as_json:
        print_json({"items": [{"owner": owner, **asdict(one)} for owner, one in found.items()]})
        return
    table = Table("owner", "jobs", "workers", "bytes")
    for owner, one in found.items():
        table.add_row(owner, *(str("" if value is None else value) for value in asdict(one).values()))
    print_table(table)
