"""Webhooks from the terminal."""

from typing import Annotated

import typer
from rich.table import Table

from api.commands import common
from api.console import err, print_json, print_line, print_table
from ropewalk.wire.kinds import JobState
from ropewalk.wire.webhooks import DeliveryResource

WebhookId = Annotated[str, typer.Argument(metavar="ID", help="The webhook's id: hook_...")]

webhooks_app = typer.Typer(help="Have changes of jobs' states told to a URL.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    webhooks_app.command("create")(create)
    webhooks_app.command("list")(list_webhooks)
    webhooks_app.command("delete")(delete)
    webhooks_app.command("deliveries")(deliveries)
    app.add_typer(webhooks_app, name="webhooks")


def create(
    url: Annotated[str, typer.Argument(help="https://..., which is sent signed POST requests.")],
    state: Annotated[
        list[JobState] | None, typer.Option(help="Tell of this state; several times. Default: ends and pauses.")
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """Create a webhook for your jobs; with scope admin, for all. Its secret is shown only once."""
    with common.client() as client:
        made = client.create_webhook(url, states=state or None)
    if as_json:
        print_json(made)
        return
    print_line(f"{made.id} {made.secret}")
    err().print("This is the only time the secret is shown. Receivers check signatures with it (Standard Webhooks).")


def list_webhooks(as_json: common.AsJson = False) -> None:
    """List your webhooks; with scope admin, all."""
    with common.client() as client:
        found = client.webhooks()
    if as_json:
        print_json(found)
        return
    table = Table("id", "url", "states", "jobs", "owner")
    for one in found.items:
        table.add_row(one.id, one.url, " ".join(one.states), "all" if one.every_job else "own", one.owner)
    print_table(table)


def delete(webhook_id: WebhookId, as_json: common.AsJson = False) -> None:
    """Tell a webhook nothing any more."""
    with common.client() as client:
        ended = client.end_webhook(webhook_id)
    print_json(ended) if as_json else print_line(f"{ended.id} deleted")


def deliveries(webhook_id: WebhookId, as_json: common.AsJson = False) -> None:
    """List what a webhook was told last, newest first."""
    with common.client() as client:
        found = client.deliveries(webhook_id)
    if as_json:
        print_json(found)
        return
    table = Table("job", "state", "when", "attempts", "outcome", "reason")
    for one in found.items:
        when = one.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(one.job_id, one.state.value, when, str(one.attempts), _outcome(one), one.reason or "")
    print_table(table)


def _outcome(delivery: DeliveryResource) -> str:
    if delivery.delivered is None:
        return "pending"
    return "delivered" if delivery.delivered else "failed"
