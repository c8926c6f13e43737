"""`ropewalk serve`: embedded PostgreSQL, migrations, controller and HTTP in one process, stopped in reverse order."""

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import uvicorn
from fastapi import FastAPI

from api.artifacts import usable_store
from api.databases import open_database
from api.http.app import create_app
from api.http.auth import check_bind
from api.http.dashboard import load_dashboard
from api.local_token import ensure_token
from api.preflight import make_home
from api.settings import Settings, http_url, is_loopback, tell_ray_address
from service.artifacts.store import ArtifactStore
from service.door import Door
from service.housekeeping import Housekeeper
from service.webhooks.addresses import networks_of
from service.webhooks.deliverer import Deliverer
from storage.api_keys import ApiKeys
from storage.postgres.database import Database
from workers.pool.room import Resources

logger = logging.getLogger("ropewalk.server")

GRACEFUL_SECONDS = 5  # open requests and event streams get this long when the server stops
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Announcement:
    """What is printed once the server listens."""

    url: str
    database: str
    controller: bool
    #: what a browser shows once; None: it is asked for a key
    token: str | None


def run_server(
    settings: Settings,
    listener: socket.socket,
    *,
    controller: bool,
    announce: Callable[[Announcement], None],
    at: Callable[[str], None],
) -> None:
    """Serve on `listener` until SIGTERM or SIGINT; then stop HTTP, the controller, Ray and the database, in this order.

    `at` hears what is started next.

    Raises:
        StorageNotWritable, InvalidSettings, DatabaseUnreachable, UnsafeBind: why it did not start.
    """
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        home = make_home(settings.home)
        store = usable_store(settings, home)
        at("the database")
        database = stack.enter_context(open_database(settings))
        keys = ApiKeys(database)
        check_bind(settings.host, keys, has_issuer=settings.oidc is not None)
        tell_ray_address(settings)
        if controller:
            at("Ray")
            # Connections of its own: no request keeps a lease waiting.
            own_pool = stack.enter_context(contextlib.closing(Database(database.url, outages=database.outages)))
            stack.enter_context(running_controller(own_pool, home, settings, store))
            signals.take()  # Ray has put a handler of its own in place
        at("the server")
        stack.enter_context(Housekeeper(database, home, settings.keep, store=store))
        token = ensure_token(home) if is_loopback(settings.host) else None
        networks = networks_of(settings.webhook_networks)
        stack.enter_context(Deliverer(database, allowed=networks))
        resources = _resources(controller=controller)
        door = Door(database, home=home, store=store, webhook_networks=networks, resources=resources)
        app = create_app(door, keys, settings, open_optuna_storage=lambda: database.dashboard, token=token)
        announce(
            Announcement(
                url=http_url(settings.host, settings.port),
                database="external" if settings.database else "embedded",
                controller=controller,
                token=token,
            )
        )
        # What is loaded by now stays for good: the collector need not look through it in the middle of an answer.
        gc.collect()
        gc.freeze()
        load_dashboard()
        uvicorn.Server(uvicorn_config(app)).run(sockets=[listener])


def _resources(*, controller: bool) -> Callable[[], Resources | None]:
    """What the cluster of this process's controller has; without one, nobody here knows."""
    if not controller:
        return lambda: None
    from workers.pool.cluster import known_resources

    return known_resources


def uvicorn_config(app: FastAPI) -> uvicorn.Config:
    """How we run uvicorn; logging is set up by the command."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        # Whatever else is installed: uvicorn would take it by itself.
        loop="asyncio",
        http="h11",
        ws="none",
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        lifespan="off",
    )


def run_controller(settings: Settings, *, announce: Callable[[str], None], at: Callable[[str], None]) -> None:
    """Run jobs only, until SIGTERM or SIGINT. `at` hears what is started next.

    Raises:
        StorageNotWritable, InvalidSettings, DatabaseUnreachable: why it did not start.
    """
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        home = make_home(settings.home)
        store = usable_store(settings, home)
        tell_ray_address(settings)
        at("the database")
        database = stack.enter_context(open_database(settings))
        at("Ray")
        owner = stack.enter_context(running_controller(database, home, settings, store))
        stack.enter_context(Housekeeper(database, home, settings.keep, store=store))
        stack.enter_context(Deliverer(database, allowed=networks_of(settings.webhook_networks)))
        signals.take()
        announce(owner)
        threading.Event().wait()


@contextlib.contextmanager
def running_controller(database: Database, home: Path, settings: Settings, store: ArtifactStore) -> Iterator[str]:
    """A controller in this process, by the name that leases carry, and the Ray connection that it makes."""
    if settings.ray_address is None:
        # A cluster of one machine: Ray then keeps to loopback, where it would listen on every address. Read on import.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    # Between a cluster that has died and the next, Ray would start one of its own for whoever asks it anything.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    from service.controller import Controller  # brings Ray along, which commands without a controller need not load
    from service.runtime.crash_points import crash_at, never
    from workers.pool.cluster import shutdown_ray

    reach = never if settings.crash_at is None else crash_at(settings.crash_at)
    controller = Controller(database, home=home, store=store, ray_address=settings.ray_address, reach=reach)
    try:
        controller.start()
        try:
            yield controller.owner
        finally:
            logger.info("stopping the controller")
            controller.stop()
    finally:
        shutdown_ray()


class StopSignals:
    """SIGTERM and SIGINT raise KeyboardInterrupt once, which unwinds everything in order; a second one ends at once.

    uvicorn takes the signals over while it serves and raises them again when it has stopped, so both ways end here.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        return kind is KeyboardInterrupt and self._seen > 0

    def take(self) -> None:
        """Put our handler in place, again where a library has replaced it."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._seen += 1
        if self._seen > 1:
            sys.stderr.write("stopped without waiting; jobs continue from the database at the next start\n")
            os._exit(128 + number)
        raise KeyboardInterrupt
