"""Processes that stay: the server, a controller alone, a Ray worker node."""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from api.commands import common
from api.console import out, print_json
from api.errors import InvalidSettings
from api.logs import set_up_logging
from api.preflight import bind, make_home
from api.settings import Settings, load_settings
from api.slow_start import SlowStart
from ropewalk.client.errors import BadInput
from ropewalk.version import ROPEWALK_VERSION
from service.runtime import tracing

logger = logging.getLogger("ropewalk.server")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("serve")(serve)
    app.command("controller")(controller)
    app.command("worker")(worker)


def _begin(**changes: object) -> Settings:
    """The settings of the environment; where it asks for JSON, what is wrong with them is told in a line of it."""
    if os.environ.get("ROPEWALK_LOG_FORMAT") == "json":
        set_up_logging("json")
    return load_settings(**changes)


@contextlib.contextmanager
def _observed(settings: Settings) -> Iterator[None]:
    """Logs and spans as the settings want them."""
    set_up_logging(settings.log_format)
    if settings.otlp_endpoint is not None:
        try:
            tracing.export_to(settings.otlp_endpoint, version=ROPEWALK_VERSION)
        except ImportError:
            raise InvalidSettings(
                "OTEL_EXPORTER_OTLP_ENDPOINT needs the extra otel (pip install '.[otel]'), which is missing"
            ) from None
    try:
        yield
    finally:
        tracing.stop()


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind (ROPEWALK_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind (ROPEWALK_PORT).")] = None,
    with_controller: Annotated[
        bool, typer.Option("--controller/--no-controller", help="Run searches in this process too.")
    ] = True,
    as_json: common.AsJson = False,
) -> None:
    """Serve HTTP, run jobs, show the dashboard; with an embedded PostgreSQL unless ROPEWALK_DATABASE_URL is set."""
    settings = _begin(host=host, port=port)
    make_home(settings.home)
    with (
        _observed(settings),
        contextlib.closing(bind(settings.host, settings.port)) as listener,
        SlowStart(logger.info) as start,
    ):
        _serve(settings, listener, start, with_controller=with_controller, as_json=as_json)


def _serve(
    settings: Settings, listener: socket.socket, start: SlowStart, *, with_controller: bool, as_json: bool
) -> None:
    # Imported here: the web framework, the database drivers, Ray and torch take seconds, and a port that is taken or
    # a home that cannot be written is reported first.
    from api.server import Announcement, run_server

    def announce(what: Announcement) -> None:
        start.done()
        if as_json or settings.log_format == "json":
            print_json({"url": what.url, "database": what.database, "controller": what.controller})
            return
        out().print(
            f"Ropewalk listens on {what.url} ({what.database} PostgreSQL, "
            f"{'with' if what.controller else 'without'} a controller)\n"
            f"  jobs           {what.url}/{'' if what.token is None else f'?token={what.token}'}\n"
            f"  documentation  {what.url}/docs\n"
            f"  dashboard      {what.url}/dashboard{'' if what.token is None else f'?token={what.token}'}\n"
            "Ctrl-C stops it; searches continue from where they were at the next start.",
            highlight=False,
        )

    run_server(settings, listener, controller=with_controller, announce=announce, at=start.at)


def controller(as_json: common.AsJson = False) -> None:
    """Run jobs only, for clusters: claims them from the database that ROPEWALK_DATABASE_URL names."""
    settings = _begin()
    with _observed(settings), SlowStart(logger.info) as start:
        _control(settings, start, as_json=as_json)


def _control(settings: Settings, start: SlowStart, *, as_json: bool) -> None:
    from api.server import run_controller  # imported here: as in `_serve`

    def announce(owner: str) -> None:
        start.done()
        as_line = as_json or settings.log_format == "json"
        print_json({"owner": owner}) if as_line else out().print(f"controller {owner} runs")

    run_controller(settings, announce=announce, at=start.at)


def worker(
    cpus: Annotated[int | None, typer.Option(min=0, help="CPUs to offer; default: all.")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs to offer; default: all.")] = None,
    as_json: common.AsJson = False,
) -> None:
    """Join the Ray cluster at RAY_ADDRESS as a node, and stay."""
    address = load_settings().ray_address
    if address is None or address == "auto" or "://" in address:
        raise BadInput(f"a worker needs RAY_ADDRESS=host:port of the cluster's head, but got {address or 'none'}")
    arguments = ["start", f"--address={address}", "--block", "--disable-usage-stats"]
    arguments += [] if cpus is None else [f"--num-cpus={cpus}"]
    arguments += [] if gpus is None else [f"--num-gpus={gpus}"]
    if as_json:
        print_json({"address": address})
    os.execv(sys.executable, [sys.executable, "-m", "ray.scripts.scripts", *arguments])
