"""What `ropewalk serve` stands on: its home and the disk there, the store of files, the database, Ray, the port."""

import contextlib
import os
import shutil
import socket
from pathlib import Path

import httpx

from api.artifacts import usable_store
from api.checkup.finding import Finding, absent, broken, good
from api.errors import ApiRoomError, InvalidSettings
from api.preflight import bind, make_home
from api.settings import Settings, http_url
from evaluation.models.user_path import user_path
from ropewalk.wire.jobs import Health
from storage.embedded.server import EmbeddedPostgres
from storage.errors import StorageError
from storage.postgres.database import Database

HEALTH_SECONDS = 2.0
LEAST_DISK = 10 * 1024**3
_GIB = 1024**3


def home(settings: Settings) -> Finding:
    """Where files of jobs go."""
    try:
        return good("home", f"{make_home(settings.home)} is writable, for files of jobs and the embedded database")
    except StorageError as error:
        return broken("home", str(error))


def artifacts(settings: Settings) -> Finding:
    """Where jobs leave files, tried by writing one."""
    try:
        store = usable_store(settings, user_path(str(settings.home)).absolute())
    except InvalidSettings as error:
        return broken("artifacts", str(error))
    return good("artifacts", f"jobs leave factor files, checkpoints and training states in {store.place}")


def disk(settings: Settings) -> Finding:
    """Where checkpoints, the embedded database and models of the Hub go."""
    from huggingface_hub.constants import HF_HUB_CACHE

    home, cache = user_path(str(settings.home)).absolute(), user_path(HF_HUB_CACHE).absolute()
    left = {str(path): _free(path) for path in (home, cache)}
    told = ", ".join(f"{free / _GIB:,.0f} GiB free at {path}" for path, free in left.items())
    about = "a fine-tuning job keeps weights, optimiser and checkpoint there, about 16 bytes per weight"
    if min(left.values()) < LEAST_DISK:
        return absent("disk", f"{told}: {about}; make room, or set ROPEWALK_HOME and HF_HOME to a larger disk")
    return good("disk", f"{told}: {about}")


def _free(path: Path) -> int:
    """Of the disk where `path` is, or will be."""
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def database(settings: Settings) -> Finding:
    """Whether it answers, and its tables are those of this version."""
    try:
        if settings.database is not None:
            return _check_database("PostgreSQL", settings.database)
        if not (settings.home / "postgres" / "data").is_dir():
            return good("PostgreSQL", "embedded; the first `ropewalk serve` makes it")
        with EmbeddedPostgres(settings.home) as embedded:
            return _check_database("PostgreSQL", embedded.url)
    except StorageError as error:
        return broken("PostgreSQL", " ".join(str(error).split()))


def _check_database(name: str, url: str) -> Finding:
    with contextlib.closing(Database(url)) as database:
        database.check()
        return good(name, f"reachable, tables current: {database!r}")


def ray_cluster(settings: Settings) -> Finding:
    """Whether something listens at RAY_ADDRESS; nothing is joined."""
    if settings.ray_address is None:
        return good("Ray cluster", "a local one, started by the controller; RAY_ADDRESS names one of several machines")
    host, _, port = settings.ray_address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=HEALTH_SECONDS).close()
        except (OSError, OverflowError) as error:
            return broken(
                "Ray cluster",
                f"RAY_ADDRESS={settings.ray_address} must be a cluster that answers, but {error}: start its head (ray "
                "start --head), or unset it",
            )
    return good("Ray cluster", f"RAY_ADDRESS={settings.ray_address} is joined by the controller")


def port(settings: Settings) -> Finding:
    """Whether `serve` could listen there, or does."""
    try:
        bind(settings.host, settings.port).close()
    except ApiRoomError as error:
        url = http_url(settings.host, settings.port)
        version = _answering(url)
        return good("port", f"Ropewalk {version} answers at {url}") if version else broken("port", str(error))
    return good("port", f"{settings.host}:{settings.port} is free")


def _answering(url: str) -> str | None:
    """The version of the Ropewalk server there; None for anything else."""
    try:
        return Health.model_validate_json(
            httpx.get(f"{url}/healthz", timeout=HEALTH_SECONDS, trust_env=False).content
        ).version
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
