"""`ropewalk doctor`: what is installed, reachable and usable on this machine."""

import contextlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import httpx

from api.errors import ApiRoomError
from api.preflight import bind, make_home
from api.settings import Settings, http_url
from ropewalk.version import ROPEWALK_VERSION
from ropewalk.wire.jobs import Health
from storage.embedded.server import EmbeddedPostgres
from storage.errors import StorageError
from storage.postgres.database import Database
from workers.backends import BACKENDS, Backend
from workers.factory import choose_backend

HEALTH_SECONDS = 2.0


class Verdict(Enum):
    """What a finding means for `ropewalk serve`."""

    good = "ok"
    absent = "absent"  # not there, and not needed for everything
    broken = "broken"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the table."""

    name: str
    verdict: Verdict
    detail: str


def examine(settings: Settings) -> tuple[Finding, ...]:
    """Every finding; nothing is left running and nothing is upgraded."""
    checks: tuple[Callable[[Settings], Finding], ...] = (
        _python,
        _required("torch"),
        _required("transformers"),
        _required("ray"),
        *(_optional(row) for row in BACKENDS.values() if row.is_optional),
        _gpu,
        _scorer,
        _home,
        _database,
        _ray_cluster,
        _port,
    )
    return tuple(check(settings) for check in checks)


def _good(name: str, detail: str) -> Finding:
    return Finding(name=name, verdict=Verdict.good, detail=detail)


def _broken(name: str, detail: str) -> Finding:
    return Finding(name=name, verdict=Verdict.broken, detail=detail)


def _absent(name: str, detail: str) -> Finding:
    return Finding(name=name, verdict=Verdict.absent, detail=detail)


def _python(settings: Settings) -> Finding:
    return _good("ropewalk", f"{ROPEWALK_VERSION} on Python {platform.python_version()}, {platform.platform()}")


def _required(package: str) -> Callable[[Settings], Finding]:
    def check(settings: Settings) -> Finding:
        version = _version(package)
        return _good(package, version) if version else _broken(package, "must be installed, but is not")

    return check


def _optional(row: Backend) -> Callable[[Settings], Finding]:
    def check(settings: Settings) -> Finding:
        if (problem := row.problem()) is not None:
            return _absent(row.name, f"{problem}; {row.summary}")
        return _good(row.name, f"{row.version()}")

    return check


def _version(package: str) -> str | None:
    if importlib.util.find_spec(package) is None:
        return None
    return importlib.metadata.version(package)


def _gpu(settings: Settings) -> Finding:
    import torch

    if not torch.cuda.is_available():
        return _absent("GPU", "none that torch can use; the CPU scores")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return _good("GPU", ", ".join(names))


def _scorer(settings: Settings) -> Finding:
    choice = choose_backend("auto")
    where = "" if settings.ray_address is None else "; other machines of the cluster choose for themselves"
    return _good("scorer", f"backend=auto takes {choice.backend} here: {choice.reason}{where}")


def _home(settings: Settings) -> Finding:
    try:
        return _good("home", f"{make_home(settings.home)} is writable")
    except StorageError as error:
        return _broken("home", str(error))


def _database(settings: Settings) -> Finding:
    try:
        if settings.database is not None:
            return _check_database("PostgreSQL", settings.database)
        if not (settings.home / "postgres" / "data").is_dir():
            return _good("PostgreSQL", "embedded; the first `ropewalk serve` makes it")
        with EmbeddedPostgres(settings.home) as embedded:
            return _check_database("PostgreSQL", embedded.url)
    except StorageError as error:
        return _broken("PostgreSQL", " ".join(str(error).split()))


def _check_database(name: str, url: str) -> Finding:
    with contextlib.closing(Database(url)) as database:
        database.check()
        return _good(name, f"reachable, tables current: {database!r}")


def _ray_cluster(settings: Settings) -> Finding:
    if settings.ray_address is None:
        return _good("Ray cluster", "a local one, started by the controller")
    return _good("Ray cluster", f"RAY_ADDRESS={settings.ray_address}; joined by the controller")


def _port(settings: Settings) -> Finding:
    try:
        bind(settings.host, settings.port).close()
    except ApiRoomError as error:
        url = http_url(settings.host, settings.port)
        version = _answering(url)
        return _good("port", f"Ropewalk {version} answers at {url}") if version else _broken("port", str(error))
    return _good("port", f"{settings.host}:{settings.port} is free")


def _answering(url: str) -> str | None:
    """The version of the Ropewalk server there; None for anything else."""
    try:
        return Health.model_validate_json(
            httpx.get(f"{url}/healthz", timeout=HEALTH_SECONDS, trust_env=False).content
        ).version
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
