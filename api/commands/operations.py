"""Migrations, and what is installed, reachable and usable here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from api.commands import common
from api.console import print_hanging, print_json, print_line
from api.settings import load_settings
from ropewalk.client.errors import BadInput

db_app = typer.Typer(help="Manage the database's tables.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    db_app.command("upgrade")(upgrade)
    db_app.command("dump")(dump)
    db_app.command("restore")(restore)
    app.add_typer(db_app, name="db")
    app.command("doctor")(doctor)


def upgrade(as_json: common.AsJson = False) -> None:
    """Create or upgrade the tables, ours and Optuna's. Safe to run at any time, from any number of machines."""
    from api.databases import open_database

    with open_database(load_settings()) as database:
        database.check()
    print_json({"status": "current"}) if as_json else print_line("all tables are current")


def dump(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The backup, which is replaced if it exists.")],
    as_json: common.AsJson = False,
) -> None:
    """Write all of the database into a file, as of one moment; servers may go on. Artifacts are files of the home."""
    from api.databases import running_database
    from storage.backup import dump as dump_into

    common.make_place(path)
    with running_database(load_settings()) as url:
        dump_into(url, path)
    size = path.stat().st_size
    print_json({"path": str(path), "bytes": size}) if as_json else print_line(f"{path}: {size} bytes")


def restore(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `ropewalk db dump` has written.")],
    as_json: common.AsJson = False,
) -> None:
    """Fill a database without tables from a backup, and upgrade it if it is older."""
    from api.databases import running_database
    from storage.backup import restore as restore_from

    try:
        path.open("rb").close()
    except OSError as error:
        raise BadInput(f"the backup must be readable, but {path} is not: {error.strerror}") from error
    with running_database(load_settings()) as url:
        restore_from(url, path)
    print_json({"status": "restored"}) if as_json else print_line("restored; all tables are current")


def doctor(as_json: common.AsJson = False) -> int:
    """Say what this machine has, what is missing and for what. Exits 1 if something that `serve` needs is missing."""
    from api.checkup.examining import examine
    from api.checkup.finding import Verdict

    findings = examine(load_settings())
    broken = any(finding.verdict is Verdict.broken for finding in findings)
    if as_json:
        checks = [{"name": one.name, "verdict": one.verdict.value, "detail": one.detail} for one in findings]
        print_json({"ok": not broken, "checks": checks})
        return int(broken)
    colours = {Verdict.good: "green", Verdict.absent: "yellow", Verdict.broken: "red"}
    for one in findings:
        line = Text(f"{one.verdict.value:<8}{one.name}: {one.detail}")
        line.stylize(colours[one.verdict], 0, len(one.verdict.value))
        print_hanging(line, indent=8)
    print_line("")
    print_line(_summary([one.name for one in findings if one.verdict is Verdict.broken]))
    return int(broken)


def _summary(broken: Sequence[str]) -> str:
    if not broken:
        return "ropewalk serve can start here. What is absent is not needed for everything."
    return f"ropewalk serve cannot work here until this is put right: {', '.join(broken)}."
