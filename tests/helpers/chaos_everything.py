"""Everything that a service consists of, as processes that a supervisor starts again when they die."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from storage.embedded.server import EmbeddedPostgres
from tests.helpers.paths import ROOT
from tests.helpers.processes import title
from tests.helpers.server_process import own_environment

WORKER = "ray::ScoringActor"


@dataclass
class Supervised:
    """One command of ours, started again whenever it is found dead."""

    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    log: Path
    prefix: tuple[str, ...] = ()  # what runs the command, such as ip netns exec
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None

    def keep_alive(self) -> None:
        """Start it, if it is not running. What its predecessor left behind, Ray's processes above all, is ended."""
        if self.process is not None and self.process.poll() is None:
            return
        self.end()
        self.starts += 1
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "api.cli", *self.arguments],
                env=self.environment,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL for the process itself, not for its children: as the kernel does when memory is short."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def descendants(self, name: str) -> list[psutil.Process]:
        """Processes below it whose name starts with `name`."""
        if self.process is None or self.process.poll() is not None:
            return []
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [child for child in children if title(child).startswith(name)]
        except psutil.Error:
            return []

    def end(self) -> None:
        """SIGKILL for the whole session."""
        if self.process is not None:
            for process in psutil.process_iter():
                try:
                    if os.getsid(process.pid) == self.process.pid:
                        process.kill()
                except (OSError, psutil.Error):
                    continue
            self.process.wait()


def environment(home: Path, database_url: str) -> dict[str, str]:
    """What one of our commands is started with."""
    return own_environment() | {
        "ROPEWALK_HOME": str(home),
        "ROPEWALK_DATABASE_URL": database_url,
        # A machine that is gone is noticed within seconds.
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
    }


@dataclass
class Service:
    """A database server, an API and controllers; `kills` says what was killed how often."""

    home: Path
    port: int
    controllers: int
    server: EmbeddedPostgres = field(init=False)
    parts: dict[str, Supervised] = field(init=False)
    kills: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.server = EmbeddedPostgres(self.home)
        names = [f"controller-{number}" for number in range(self.controllers)]
        commands = {"api": ("serve", "--no-controller"), **dict.fromkeys(names, ("controller",))}
        self.parts = {
            name: Supervised(
                name=name, arguments=arguments, environment=self._environment(name), log=self.home / f"{name}.log"
            )
            for name, arguments in commands.items()
        }

    def _environment(self, name: str) -> dict[str, str]:
        return environment(self.home / name, self.server.url) | {"ROPEWALK_PORT": str(self.port)}

    def keep_alive(self) -> None:
        """Start what is dead."""
        if self._postmaster() is None:
            EmbeddedPostgres(self.home).start()
        for part in self.parts.values():
            part.keep_alive()

    def kill(self, what: str, rng: random.Random) -> None:
        """Kill one of `what`: api, controller, worker, raylet or postgres; nothing when there is none now."""
        if what == "postgres":
            victims = [pid for pid in [self._postmaster()] if pid is not None]
        elif what in ("api", "controller"):
            chosen = [part.process for name, part in self.parts.items() if name.startswith(what)]
            victims = [process.pid for process in chosen if process is not None and process.poll() is None]
        else:
            title = WORKER if what == "worker" else str(_raylet_path())
            victims = [one.pid for part in self.parts.values() for one in part.descendants(title)]
        if victims:
            os.kill(rng.choice(victims), signal.SIGKILL)
            self.kills[what] = self.kills.get(what, 0) + 1

    def _postmaster(self) -> int | None:
        try:
            pid = int((self.home / "postgres" / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
            return pid if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, psutil.Error):
            return None

    def logs(self) -> str:
        """The end of every log."""
        return "\n".join(f"--- {name}\n{part.log.read_text()[-1500:]}" for name, part in self.parts.items())


def _raylet_path() -> Path:
    import ray

    return Path(ray.__file__).parent / "core" / "src" / "ray" / "raylet" / "raylet"


@contextmanager
def running_service(home: Path, *, port: int, controllers: int) -> Iterator[Service]:
    """Everything, started; at the end, everything is gone."""
    home.mkdir(parents=True)
    service = Service(home=home, port=port, controllers=controllers)
    with ExitStack() as stack:
        for part in service.parts.values():
            stack.callback(part.end)
        stack.enter_context(service.server)
        service.keep_alive()
        yield service


def live_until(service: Service, condition: Callable[[], bool], *, seconds: float, each: Callable[[], None]) -> None:
    """Supervise until `condition` holds; `each` is called ten times a second."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, service.logs()
        service.keep_alive()
        each()
        time.sleep(0.1)
