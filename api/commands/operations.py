"""Migrations, and what is installed, reachable and usable here."""

import typer
from rich.table import Table

from api.commands import common
from api.console import print_json, print_line, print_table
from api.settings import load_settings

db_app = typer.Typer(help="Manage the database's tables.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    db_app.command("upgrade")(upgrade)
    app.add_typer(db_app, name="db")
    app.command("doctor")(doctor)


@db_app.callback()
def _group() -> None:
    """Keeps `db upgrade` two words although it is the group's only command."""


def upgrade(as_json: common.AsJson = False) -> None:
    """Create or upgrade the tables, ours and Optuna's. Safe to run at any time, from any number of machines."""
    from api.databases import open_database

    with open_database(load_settings()) as database:
        database.check()
    print_json({"status": "current"}) if as_json else print_line("all tables are current")


def doctor(as_json: common.AsJson = False) -> int:
    """Report what is installed, reachable and usable here. Exits 1 if something that `serve` needs is missing."""
    from api.checkup import Verdict, examine

    findings = examine(load_settings())
    broken = any(finding.verdict is Verdict.broken for finding in findings)
    if as_json:
        checks = [{"name": one.name, "verdict": one.verdict.value, "detail": one.detail} for one in findings]
        print_json({"ok": not broken, "checks": checks})
        return int(broken)
    colours = {Verdict.good: "green", Verdict.absent: "yellow", Verdict.broken: "red"}
    table = Table("what", "verdict", "detail")
    for one in findings:
        table.add_row(one.name, f"[{colours[one.verdict]}]{one.verdict.value}[/]", one.detail)
    print_table(table)
    return int(broken)
