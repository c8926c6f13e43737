"""What is checked before anything starts, and before anything heavy is imported: the home directory and the port."""

import contextlib
import os
import socket
from pathlib import Path

from api.errors import PortTaken
from evaluation.models.user_path import user_path
from storage.errors import StorageNotWritable

BACKLOG = 128


def make_home(home: Path) -> Path:
    """Create the home directory and check that it can be written.

    Raises:
        StorageNotWritable: names the directory.
    """
    home = user_path(str(home)).absolute()
    probe = home / f".writable-{os.getpid()}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StorageNotWritable(f"ROPEWALK_HOME must be writable, but {home} is not: {error.strerror}") from error
    return home


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; taken first, so that a port in use is reported before anything else starts.

    Raises:
        PortTaken: names the address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as on_error:
            listener = on_error.enter_context(contextlib.closing(socket.socket(family, kind, protocol)))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            on_error.pop_all()
    except OSError as error:
        raise PortTaken(
            f"the server must be able to listen on {host}:{port}, but cannot: {error.strerror or error}; "
            "choose another with ROPEWALK_PORT or --port"
        ) from error
    listener.set_inheritable(False)
    return listener
